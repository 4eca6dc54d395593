'use strict';
const { ethers } = require('ethers');
const WebSocket = require('ws');
const scenario = require('./scenario.cjs');

(async () => {
  const provider = new ethers.JsonRpcProvider(process.env.URL, undefined, { pollingInterval: 200 });
  const signer = await provider.getSigner();
  const pay = (to, value, data) => signer.sendTransaction({ to, value, data });
  await scenario({
    name: 'ethers 6',
    version: ethers.version,
    accounts: async () => (await provider.listAccounts()).map((account) => account.address),
    pay: async (to, wei, data) => (await (await pay(to, wei, data)).wait()).status,
    deploy: async (code) => (await (await signer.sendTransaction({ data: code })).wait()).contractAddress,
    call: (to, data) => provider.call({ to, data }),
    many: (to, count) => Promise.all(Array.from({ length: count }, async () => (await (await pay(to, 1)).wait()).hash)),
    sign: (text) => signer.signMessage(text),
    signer: (text, signature) => ethers.verifyMessage(text, signature),
    typed: ({ domain, types, message }) => signer.signTypedData(domain, types, message),
    typedSigner: ({ domain, types, message }, signature) => ethers.verifyTypedData(domain, types, message, signature),
    hears: async (contract, act) => {
      const socket = new ethers.WebSocketProvider(() => new WebSocket(process.env.WSS, scenario.certificate()));
      const heard = new Promise((resolve) => socket.on({ address: contract }, (log) => resolve(log.address)));
      await socket.getBlockNumber();
      await act();
      const address = await heard;
      await socket.destroy();
      return address;
    },
    trouble: async ({ from, to }) => (await provider.getSigner(from)).sendTransaction({ to, value: 1 }),
  });
  provider.destroy();
})().catch((error) => { console.error(error); process.exit(1); });
