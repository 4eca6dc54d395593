// A Hardhat project in one file: `hardhat --config` reads it, and its task is the script.
'use strict';
require('@nomicfoundation/hardhat-ethers');
const { task } = require('hardhat/config');
const { version } = require('hardhat/package.json');
const scenario = require('./scenario.cjs');

task('scenario', async (_, { ethers, network }) => {
  const [signer] = await ethers.getSigners();
  const pay = (to, value) => signer.sendTransaction({ to, value });
  await scenario({
    name: 'hardhat',
    version,
    accounts: () => network.provider.send('eth_accounts'),
    pay: async (to, wei) => (await (await pay(to, wei)).wait()).status,
    deploy: async (code) => (await (await signer.sendTransaction({ data: code })).wait()).contractAddress,
    read: (to) => ethers.provider.call({ to }),
    many: (to, count) => Promise.all(Array.from({ length: count }, async () => (await (await pay(to, 1)).wait()).hash)),
    sign: (text) => signer.signMessage(text),
    signer: (text, signature) => ethers.verifyMessage(text, signature),
    refused: (to) => scenario.failure(() => pay(to, 1)),
  });
});

module.exports = {
  solidity: '0.8.28',
  defaultNetwork: 'chancery',
  networks: { chancery: { url: process.env.URL ?? 'http://127.0.0.1:1', accounts: 'remote' } },
};
