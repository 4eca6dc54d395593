// What every client must be able to do, unchanged. A client is an object:
//   { name, version, accounts(), pay(to, wei), deploy(code), read(address), many(to, count), sign(text),
//     signer(text, signature), refused(to) }
// `pay` and `deploy` wait for the receipt and answer its status or address; `refused` answers what a user gets to see.
'use strict';

const assert = require('node:assert/strict');

// Answers 42 to every call.
const CODE = '0x600a600c600039600a6000f3602a60005260206000f3';

module.exports = async function scenario(client) {
  const { FROM, FRIEND, STRANGER } = process.env;
  const same = (a, b) => assert.equal(String(a).toLowerCase(), String(b).toLowerCase());

  const accounts = await client.accounts();
  assert.equal(accounts.length, 1);
  same(accounts[0], FROM);

  assert.equal(Number(await client.pay(FRIEND, 1)), 1, 'a transfer');
  const contract = await client.deploy(CODE);
  assert.equal(BigInt(await client.read(contract)), 42n, 'a call of what was deployed');

  const hashes = await client.many(FRIEND, 8);
  assert.equal(new Set(hashes).size, 8, 'eight sends at once, eight transactions');

  const signature = await client.sign('hello from ' + client.name);
  same(await client.signer('hello from ' + client.name, signature), FROM);

  const said = await client.refused(STRANGER);
  assert.match(said, /blocked/, 'the refusal names the rule');

  console.log(`clients ${client.name} ${client.version}: ok`);
};

// Runs `act`, which must fail, and answers everything that its error says.
module.exports.failure = async function failure(act) {
  try {
    await act();
  } catch (error) {
    return [error.message, error.details, error.shortMessage, JSON.stringify(error.info ?? error.error ?? {})].join(' ');
  }
  throw new Error('this should have been refused');
};
