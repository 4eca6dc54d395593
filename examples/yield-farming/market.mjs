// The rest of the market: what others do on a day, so that rates change. Played by the deployer.
//
//   ETH_RPC_URL=… node market.mjs deployment.json DAY
import { readFileSync } from 'node:fs';
import { account, call, send, units } from './chain.mjs';

const { usdc, vault, aave_pool: pool, aave_data: data } = JSON.parse(readFileSync(process.argv[2]));

// What the vault earns on that day, and what is borrowed from Aave, in USDC.
const DAYS = [
  [40, 400_000], [40, 420_000], [170, 380_000], [170, 300_000], [30, 430_000], [20, 470_000], [30, 480_000], [25, 470_000],
];
const [earned, borrowed] = DAYS[Number(process.argv[3]) % DAYS.length];

await send(usdc, 'transfer', [vault.address, units(earned, 6)]);
const [, , debt] = await call(data, 'getUserReserveData', usdc.address, account);
const wanted = units(borrowed, 6);
if (wanted > debt) {
  await send(pool, 'borrow', [usdc.address, wanted - debt, 2n, 0, account]);
} else {
  await send(usdc, 'approve', [pool.address, debt - wanted]);
  await send(pool, 'repay', [usdc.address, debt - wanted, 2n, account]);
}
