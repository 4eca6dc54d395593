// What every client must be able to do, unchanged. A client is an object:
//   { name, version, accounts(), pay(to, wei, data), deploy(code), call(to, data), many(to, count), sign(text), signer(text, signature),
//     typed(data), typedSigner(data, signature), hears(contract, act), trouble({ from, to }) }
// `pay` and `deploy` wait for the receipt and answer its status or address. `hears` subscribes to what a contract logs, acts, and
// answers the address of the first log; it may be missing. `trouble` is a payment that fails.
//
// Says in JSON what was done; or, for a `TROUBLE`, in plain text what a user gets to see.
'use strict';

const assert = require('node:assert/strict');
const { hashMessage, TypedDataEncoder } = require('ethers');

// Logs an empty line, hands what it is given to ecrecover, and answers what that says.
const RECOVERS = '0x60168060093d393df33d3da0363d3d3760203d363d60015afa5060206000f3';

const typedData = {
  domain: { name: 'Chancery', version: '1', chainId: 31337, verifyingContract: '0x70997970C51812dc3A010C7d01b50e0d17dc79C8' },
  types: { Order: [{ name: 'maker', type: 'address' }, { name: 'amount', type: 'uint256' }, { name: 'note', type: 'string' }] },
  primaryType: 'Order',
  message: { maker: process.env.FROM, amount: '123456789012345678901234567890', note: 'hello' },
};

module.exports = async function scenario(client) {
  const { FROM, OTHER, FRIEND, TROUBLE, PAYER, PAYEE } = process.env;
  if (TROUBLE) {
    console.log(await seen(() => client.trouble({ from: PAYER, to: PAYEE })));
    return;
  }
  const done = [];
  const same = (a, b) => assert.equal(String(a).toLowerCase(), String(b).toLowerCase());
  const step = async (name, act) => {
    await act();
    done.push(name);
  };

  await step('accounts', async () => {
    const accounts = await client.accounts();
    assert.equal(accounts.length, 2);
    same(accounts[0], FROM);
    same(accounts[1], OTHER);
  });
  await step('transfer', async () => assert.equal(Number(await client.pay(FRIEND, 1)), 1));
  let contract;
  await step('deploy', async () => {
    contract = await client.deploy(RECOVERS);
  });
  // By the contract, whatever the client says of it.
  const onChain = async (digest, signature) => {
    const [r, s, v] = [signature.slice(2, 66), signature.slice(66, 130), signature.slice(130)];
    const answer = await client.call(contract, `${digest}${v.padStart(64, '0')}${r}${s}`);
    same(answer.slice(-40), FROM.slice(2));
  };
  await step('parallel', async () => assert.equal(new Set(await client.many(FRIEND, 8)).size, 8));
  await step('message', async () => {
    const text = `hello from ${client.name}`;
    const signature = await client.sign(text);
    same(await client.signer(text, signature), FROM);
    await onChain(hashMessage(text), signature);
  });
  await step('typed data', async () => {
    const signature = await client.typed(typedData);
    same(await client.typedSigner(typedData, signature), FROM);
    const { domain, types, message } = typedData;
    await onChain(TypedDataEncoder.hash(domain, types, message), signature);
  });
  // Last, since messages and typed data were verified by it: a call.
  done.push('call');
  if (client.hears) await step('events', async () => same(await client.hears(contract, () => client.pay(contract, 0, '0x01')), contract));

  console.log(JSON.stringify({ name: client.name, version: client.version, done }));
};

// What the user gets to see of a failure.
async function seen(act) {
  try {
    await act();
  } catch (error) {
    return error.message;
  }
  throw new Error('this should have failed');
}

// For subscriptions, which go to the gateway itself: a certificate for `ws`.
module.exports.certificate = () => {
  const { readFileSync } = require('node:fs');
  const { CA, CERT, KEY } = process.env;
  return { ca: readFileSync(CA), cert: readFileSync(CERT), key: readFileSync(KEY) };
};

// `types` with the domain's, for those who do not work it out by themselves.
module.exports.withDomainType = (data) => ({
  ...data,
  types: {
    EIP712Domain: [
      { name: 'name', type: 'string' }, { name: 'version', type: 'string' }, { name: 'chainId', type: 'uint256' },
      { name: 'verifyingContract', type: 'address' },
    ],
    ...data.types,
  },
});
