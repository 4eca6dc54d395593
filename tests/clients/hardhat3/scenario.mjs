// A Hardhat 3 project's script: hardhat-viem for what every client does, and a deployment by Ignition.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { network } from 'hardhat';
import { recoverMessageAddress, recoverTypedDataAddress } from 'viem';
import Till from './ignition/modules/Till.js';

const require = createRequire(import.meta.url);
const scenario = require('./scenario.cjs');
const { version } = require('hardhat/package.json');

const { viem, ignition, provider } = await network.connect();
const reader = await viem.getPublicClient({ pollingInterval: 200 });
const [wallet] = await viem.getWalletClients();
const pay = (to, value) => wallet.sendTransaction({ to, value: BigInt(value) });
const mined = (hash) => reader.waitForTransactionReceipt({ hash });

await scenario({
  name: 'Hardhat 3',
  version,
  accounts: () => provider.request({ method: 'eth_accounts' }),
  pay: async (to, wei) => ((await mined(await pay(to, wei))).status === 'success' ? 1 : 0),
  deploy: async (code) => {
    const { till } = await ignition.deploy(Till);
    assert.equal(await till.read.payments(), 1n, 'Ignition has deployed it, and called it');
    return (await mined(await wallet.sendTransaction({ data: code }))).contractAddress;
  },
  call: async (to, data) => (await reader.call({ to, data })).data,
  many: (to, count) => Promise.all(Array.from({ length: count }, async () => (await mined(await pay(to, 1))).transactionHash)),
  sign: (message) => wallet.signMessage({ message }),
  signer: (message, signature) => recoverMessageAddress({ message, signature }),
  typed: (data) => wallet.signTypedData(data),
  typedSigner: (data, signature) => recoverTypedDataAddress({ ...data, signature }),
  trouble: ({ from, to }) => wallet.sendTransaction({ account: from, to, value: 1n }),
});
