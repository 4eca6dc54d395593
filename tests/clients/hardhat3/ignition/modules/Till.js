// A contract, and a call of it.
import { buildModule } from '@nomicfoundation/hardhat-ignition/modules';

export default buildModule('Till', (m) => {
  const till = m.contract('Till');
  m.call(till, 'count');
  return { till };
});
