'use strict';
const { ethers } = require('ethers');
const scenario = require('./scenario.cjs');

(async () => {
  const provider = new ethers.JsonRpcProvider(process.env.URL, undefined, { pollingInterval: 200 });
  const signer = await provider.getSigner();
  const pay = (to, value) => signer.sendTransaction({ to, value });
  await scenario({
    name: 'ethers',
    version: ethers.version,
    accounts: async () => (await provider.listAccounts()).map((account) => account.address),
    pay: async (to, wei) => (await (await pay(to, wei)).wait()).status,
    deploy: async (code) => (await (await signer.sendTransaction({ data: code })).wait()).contractAddress,
    read: (to) => provider.call({ to }),
    many: (to, count) => Promise.all(Array.from({ length: count }, async () => (await (await pay(to, 1)).wait()).hash)),
    sign: (text) => signer.signMessage(text),
    signer: (text, signature) => ethers.verifyMessage(text, signature),
    refused: (to) => scenario.failure(() => pay(to, 1)),
  });
  provider.destroy();
})().catch((error) => { console.error(error); process.exit(1); });
