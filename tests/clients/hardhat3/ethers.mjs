// A Hardhat 3 project's script with hardhat-ethers.
import { createRequire } from 'node:module';
import { network } from 'hardhat';

const require = createRequire(import.meta.url);
const scenario = require('./scenario.cjs');
const { version } = require('@nomicfoundation/hardhat-ethers/package.json');

const { ethers, provider } = await network.connect();
const [signer] = await ethers.getSigners();
const pay = (to, value) => signer.sendTransaction({ to, value });

await scenario({
  name: 'Hardhat 3, ethers',
  version,
  accounts: () => provider.request({ method: 'eth_accounts' }),
  pay: async (to, wei) => (await (await pay(to, wei)).wait()).status,
  deploy: async (code) => (await (await signer.sendTransaction({ data: code })).wait()).contractAddress,
  call: (to, data) => ethers.provider.call({ to, data }),
  many: (to, count) => Promise.all(Array.from({ length: count }, async () => (await (await pay(to, 1)).wait()).hash)),
  sign: (text) => signer.signMessage(text),
  signer: (text, signature) => ethers.verifyMessage(text, signature),
  typed: ({ domain, types, message }) => signer.signTypedData(domain, types, message),
  typedSigner: ({ domain, types, message }, signature) => ethers.verifyTypedData(domain, types, message, signature),
  trouble: async ({ from, to }) => (await ethers.getSigner(from)).sendTransaction({ to, value: 1 }),
});
