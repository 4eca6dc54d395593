// A Hardhat 2 project in one file: `hardhat --config` reads it, and its task is the script.
'use strict';
require('@nomicfoundation/hardhat-ethers');
const { task } = require('hardhat/config');
const { version } = require('hardhat/package.json');
const scenario = require('./scenario.cjs');

task('scenario', async (_, { ethers, network }) => {
  const [signer] = await ethers.getSigners();
  const pay = (to, value) => signer.sendTransaction({ to, value });
  await scenario({
    name: 'Hardhat 2',
    version,
    accounts: () => network.provider.send('eth_accounts'),
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
});

module.exports = {
  solidity: '0.8.28',
  defaultNetwork: 'chancery',
  networks: { chancery: { url: process.env.URL ?? 'http://127.0.0.1:1', accounts: 'remote' } },
};
