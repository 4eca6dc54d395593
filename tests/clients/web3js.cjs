'use strict';
const { Web3 } = require('web3');
const scenario = require('./scenario.cjs');

(async () => {
  const web3 = new Web3(process.env.URL);
  const from = process.env.FROM;
  const pay = (to, value) => web3.eth.sendTransaction({ from, to, value });
  await scenario({
    name: 'web3.js',
    version: Web3.version,
    accounts: () => web3.eth.getAccounts(),
    pay: async (to, wei) => (await pay(to, wei)).status,
    deploy: async (code) => (await web3.eth.sendTransaction({ from, data: code })).contractAddress,
    read: (to) => web3.eth.call({ to }),
    many: async (to, count) =>
      (await Promise.all(Array.from({ length: count }, () => pay(to, 1)))).map((receipt) => receipt.transactionHash),
    sign: (text) => web3.eth.personal.sign(text, from, ''),
    signer: (text, signature) => web3.eth.accounts.recover(text, signature),
    refused: (to) => scenario.failure(() => pay(to, 1)),
  });
})().catch((error) => { console.error(error); process.exit(1); });
