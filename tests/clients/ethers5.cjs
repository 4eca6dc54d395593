'use strict';
const { ethers } = require('ethers5');
const scenario = require('./scenario.cjs');

(async () => {
  const provider = new ethers.providers.JsonRpcProvider(process.env.URL);
  provider.pollingInterval = 200;
  const signer = provider.getSigner();
  const pay = (to, value) => signer.sendTransaction({ to, value });
  await scenario({
    name: 'ethers5',
    version: ethers.version,
    accounts: () => provider.listAccounts(),
    pay: async (to, wei) => (await (await pay(to, wei)).wait()).status,
    deploy: async (code) => (await (await signer.sendTransaction({ data: code })).wait()).contractAddress,
    read: (to) => provider.call({ to }),
    many: (to, count) =>
      Promise.all(Array.from({ length: count }, async () => (await (await pay(to, 1)).wait()).transactionHash)),
    sign: (text) => signer.signMessage(text),
    signer: (text, signature) => ethers.utils.verifyMessage(text, signature),
    refused: (to) => scenario.failure(() => pay(to, 1)),
  });
})().catch((error) => { console.error(error); process.exit(1); });
