// A Hardhat 2 project in one file: `hardhat --config` reads it, and its task is the script: hardhat-ethers for what every
// client does, and a deployment by Ignition.
'use strict';
require('@nomicfoundation/hardhat-ethers');
require('@nomicfoundation/hardhat-ignition-ethers');
const assert = require('node:assert/strict');
const { buildModule } = require('@nomicfoundation/hardhat-ignition/modules');
const { TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD } = require('hardhat/builtin-tasks/task-names');
const { subtask, task } = require('hardhat/config');
const { version } = require('hardhat/package.json');
const scenario = require('./scenario.cjs');

// The compiler that Hardhat brings along, instead of one that it fetches.
const compiler = require('solc/package.json').version;
subtask(TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD, async () => ({
  compilerPath: require.resolve('solc/soljson.js'),
  isSolcJs: true,
  version: compiler,
  longVersion: compiler,
}));

const Till = buildModule('Till', (m) => {
  const till = m.contract('Till');
  m.call(till, 'count');
  return { till };
});

task('scenario', async (_, { ethers, ignition, network, run }) => {
  await run('compile', { quiet: true });
  const [signer] = await ethers.getSigners();
  const pay = (to, value) => signer.sendTransaction({ to, value });
  const deployed = async (code) => (await (await signer.sendTransaction({ data: code })).wait()).contractAddress;
  await scenario({
    name: 'Hardhat 2',
    version,
    accounts: () => network.provider.send('eth_accounts'),
    pay: async (to, wei) => (await (await pay(to, wei)).wait()).status,
    deploy: async (code) => {
      // The chain of the test makes a block for each transaction, and no more.
      const { till } = await ignition.deploy(Till, { config: { requiredConfirmations: 1 } });
      assert.equal(await till.payments(), 1n, 'Ignition has deployed it, and called it');
      return deployed(code);
    },
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
  solidity: compiler,
  defaultNetwork: 'chancery',
  networks: { chancery: { url: process.env.URL ?? 'http://127.0.0.1:1', accounts: 'remote' } },
};
