'use strict';
const { Web3 } = require('web3');
const { WebSocketProvider } = require('web3-providers-ws');
const { verifyTypedData } = require('ethers');
const scenario = require('./scenario.cjs');

(async () => {
  const web3 = new Web3(process.env.URL);
  const from = process.env.FROM;
  const pay = (to, value, data) => web3.eth.sendTransaction({ from, to, value, data });
  await scenario({
    name: 'web3.js',
    version: Web3.version,
    accounts: () => web3.eth.getAccounts(),
    pay: async (to, wei, data) => (await pay(to, wei, data)).status,
    deploy: async (code) => (await web3.eth.sendTransaction({ from, data: code })).contractAddress,
    call: (to, data) => web3.eth.call({ to, data }),
    many: async (to, count) =>
      (await Promise.all(Array.from({ length: count }, () => pay(to, 1)))).map((receipt) => receipt.transactionHash),
    sign: (text) => web3.eth.personal.sign(text, from, ''),
    signer: (text, signature) => web3.eth.accounts.recover(text, signature),
    typed: (data) => web3.eth.signTypedData(from, scenario.withDomainType(data)),
    // It has nothing of its own to verify with.
    typedSigner: ({ domain, types, message }, signature) => verifyTypedData(domain, types, message, signature),
    hears: async (contract, act) => {
      const socket = new Web3(new WebSocketProvider(process.env.WSS, scenario.certificate()));
      const logs = await socket.eth.subscribe('logs', { address: contract });
      const heard = new Promise((resolve) => logs.on('data', (log) => resolve(log.address)));
      await act();
      const address = await heard;
      socket.currentProvider.disconnect();
      return address;
    },
    trouble: ({ from, to }) => web3.eth.sendTransaction({ from, to, value: 1 }),
  });
  // Its WebSocket keeps it alive.
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
