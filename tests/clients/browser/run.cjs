// Drives Chromium: pages that use the extension, the page that MetaMask tests wallets with, pages that should get nothing, and
// MetaMask's network stack in a worker of its own. Says in the end that all is well.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const { createReadStream, existsSync } = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const puppeteer = require('puppeteer-core');
const { Wallet } = require(process.env.ETHERS);

const [, , MODE] = process.argv;
const { ONE, TWO, NODE_URL, METAMASK, FROM, OTHER, FRIEND, STRANGER, PREY, DAPP, HOME } = process.env;
const [EXTENSION, STACK] = process.env.IDS.split(',');
const lower = (list) => list.map((one) => one.toLowerCase());
const payment = (more) => ({ from: FROM, to: FRIEND, value: '0x1', ...more });

/** A site on a port of its own, which makes it an origin of its own: a folder, or one page (or what makes it of a request). */
async function site(folder, html = '<!doctype html><title>a page</title>') {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://x');
    const file = folder && path.join(folder, pathname === '/' ? 'index.html' : pathname);
    const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
    if (!file) return response.setHeader('content-type', 'text/html').end(typeof html === 'function' ? await html(request) : html);
    if (!existsSync(file)) return response.writeHead(404).end();
    response.setHeader('content-type', types[path.extname(file)] ?? 'application/octet-stream');
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

/**
 * What lies between the browser and a connector: while it has `cuts` left, it loses the answer to a payment that it hands on;
 * what comes back waits for `hold`; and nothing goes through while it is `down`.
 */
async function relay(url) {
  const there = new URL(url);
  const made = { cuts: 0, lost: 0, hold: undefined, down: false, sockets: new Set(), asked: '' };
  const server = net.createServer((browser) => {
    if (made.down) return browser.resetAndDestroy();
    const connector = net.connect(Number(there.port), '127.0.0.1');
    let losing = false;
    browser.on('data', (data) => {
      const text = data.toString('latin1');
      made.asked += text;
      if (made.down) return browser.resetAndDestroy();
      if (/^upgrade: websocket/im.test(text)) {
        made.sockets.add(browser);
        browser.on('close', () => made.sockets.delete(browser));
      }
      if (made.cuts > 0 && text.includes('eth_sendTransaction')) {
        made.cuts -= 1;
        losing = true;
      }
      // The connector is told its own address, as it wants to be.
      connector.write(/^(GET|POST) /.test(text) ? Buffer.from(text.replace(/^(host: ).*$/im, `$1${there.host}`), 'latin1') : data);
    });
    connector.on('data', async (data) => {
      await made.hold;
      if (!losing) return browser.write(data);
      made.lost += 1;
      browser.resetAndDestroy();
      connector.destroy();
    });
    for (const [one, other] of [[browser, connector], [connector, browser]]) {
      one.on('error', () => other.destroy());
      one.on('end', () => other.end());
      one.on('close', () => other.destroy());
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  made.url = `http://127.0.0.1:${server.address().port}${there.pathname}`;
  return made;
}

async function eventually(what, attempt) {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    const found = await attempt();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: not within 20 s`);
}

/** The windows of questions that were answered; they may be there for a moment still. */
const decisions = new Set();

/** The window of the extension’s next question. */
async function question(browser) {
  const isNew = (one) => one.url().startsWith(`chrome-extension://${EXTENSION}/confirm.html?`) && !decisions.has(one.url());
  // Whose it was that does not come.
  const none = new Error('the user is not asked');
  const target = await browser.waitForTarget(isNew, { timeout: 20_000 }).catch(() => Promise.reject(none));
  decisions.add(target.url());
  return target.asPage();
}

/** The user’s answer to the extension’s next question; what it showed. */
async function decide(browser, yes, before = async () => {}) {
  const page = await question(browser);
  await page.waitForSelector('#accept:not([disabled])');
  await before(page);
  const shown = await page.evaluate(() => document.body.innerText);
  const gone = new Promise((resolve) => page.once('close', resolve));
  await page.click(yes ? '#accept' : '#refuse').catch(() => {});
  await gone;
  return shown;
}

async function worker(browser, id) {
  const is = (one) => one.type() === 'service_worker' && one.url().startsWith(`chrome-extension://${id}/`);
  const none = new Error(`there is no worker of ${id}`);
  return (await browser.waitForTarget(is, { timeout: 20_000 }).catch(() => Promise.reject(none))).worker();
}

/** Looks for the wallet as EIP-6963 says, and remembers what it tells. */
const discover = (page) =>
  page.evaluate(async () => {
    window.told = [];
    const found = new Promise((resolve) => {
      window.addEventListener('eip6963:announceProvider', ({ detail }) => {
        if (detail.info.rdns === 'dev.chancery') resolve(detail);
      });
      setTimeout(() => resolve(undefined), 10_000);
    });
    window.dispatchEvent(new Event('eip6963:requestProvider'));
    const detail = await found;
    window.wallet = detail.provider;
    for (const event of ['connect', 'disconnect', 'accountsChanged', 'chainChanged', 'message']) {
      window.wallet.on(event, (value) => window.told.push([event, JSON.parse(JSON.stringify(value))]));
    }
    return { ...detail.info };
  });

/** One request; what comes of it, an error as its code, message and data. */
const ask = (page, method, params) =>
  page.evaluate(
    (asked) =>
      window.wallet.request(asked).then(
        (result) => ({ result }),
        ({ code, message, data }) => ({ code, message, data }),
      ),
    params === undefined ? { method } : { method, params },
  );

/** What a page says that goes around the provider; the error that it gets. */
const rawly = (page, asked) =>
  page.evaluate(
    (text) =>
      new Promise((resolve) => {
        const id = 1_000_000;
        window.addEventListener('message', ({ data }) => data.to === 'page' && data.id === id && resolve(data.error));
        window.postMessage({ channel: 'chancery-wallet', to: 'extension', id, text }, window.origin);
      }),
    JSON.stringify(asked),
  );

/** One that the user is asked about. */
async function decided(browser, page, yes, method, params) {
  const [answer, shown] = await Promise.all([ask(page, method, params), decide(browser, yes)]);
  return { ...answer, shown };
}

const told = (page, event, test) =>
  eventually(`${event} is told`, () =>
    page.evaluate((event) => window.told.filter(([name]) => name === event).map(([, value]) => value), event).then((all) => all.find(test)),
  );

/** The window of a question: a click that was meant for something else is none. */
async function stolen(confirm) {
  const [disabled, waited] = await confirm.evaluate(async () => {
    const accept = document.getElementById('accept');
    const changed = () => new Promise((resolve) => new MutationObserver(resolve).observe(accept, { attributes: true }));
    window.dispatchEvent(new Event('blur'));
    const { disabled } = accept;
    window.dispatchEvent(new Event('focus'));
    const began = performance.now();
    // What was noted until now is told first.
    await changed();
    if (accept.disabled) await changed();
    return [disabled && !accept.disabled, performance.now() - began];
  });
  assert.ok(disabled, 'it is disabled, and then enabled again');
  assert.ok(waited >= 450, `after ${waited} ms`);
  await confirm.evaluate(() => {
    document.hasFocus = () => false;
    window.dispatchEvent(new Event('blur'));
  });
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.ok(await confirm.$eval('#accept', ({ disabled }) => disabled), 'it lies behind another');
  await confirm.evaluate(() => {
    delete document.hasFocus;
    window.dispatchEvent(new Event('focus'));
  });
  await confirm.waitForSelector('#accept:not([disabled])');
  // By a script, and as the second of a double click: were it taken, there were an answer and no window.
  await confirm.$eval('#accept', (button) => button.click());
  const { x, y } = await (await confirm.$('#accept')).clickablePoint();
  await confirm.mouse.move(x, y);
  await confirm.mouse.down({ clickCount: 2 });
  await confirm.mouse.up({ clickCount: 2 });
  assert.equal(await confirm.$eval('#title', ({ textContent }) => textContent), 'May this page use your accounts?');
}

async function wallet(browser, options) {
  const page = await browser.newPage();
  await page.goto(await site());
  const info = await discover(page);
  assert.equal(info.name, 'Chancery');
  assert.match(info.uuid, /^[0-9a-f]{8}-/);

  // A page that was not let in gets nothing.
  assert.deepEqual(await ask(page, 'eth_accounts'), { result: [] });
  // The first gateway may not be reached at once; another is never taken in its place.
  let last;
  const first = eventually('the first chain is told', async () => {
    last = await ask(page, 'eth_chainId');
    assert.notEqual(last.result, '0xa');
    return last.result === '0x7a69';
  });
  await first.catch(async ({ message }) => {
    const managed = await (await worker(browser, EXTENSION)).evaluate(() => chrome.storage.managed.get());
    throw new Error(`${message}, but ${JSON.stringify({ last, managed })}`);
  });
  for (const [method, params] of [
    ['eth_sendTransaction', [payment()]],
    ['personal_sign', ['0x00', FROM]],
    ['eth_blockNumber', []],
    ['wallet_switchEthereumChain', [{ chainId: '0xa' }]],
  ]) {
    assert.equal((await ask(page, method, params)).code, 4100, method);
  }
  const asked = ask(page, 'eth_requestAccounts');
  const refused = { shown: await decide(browser, false, stolen), ...(await asked) };
  assert.equal(refused.code, 4001);
  assert.match(refused.shown, new RegExp(`^May this page use[^]*${new URL(page.url()).host}`));

  const all = async (confirm) => {
    for (const box of await confirm.$$('#accounts input:not(:checked)')) await box.click();
  };
  const [connected] = await Promise.all([ask(page, 'eth_requestAccounts'), decide(browser, true, all)]);
  assert.deepEqual(connected.result, lower([FROM, OTHER]));
  await told(page, 'connect', ({ chainId }) => chainId === '0x7a69');
  await told(page, 'accountsChanged', (accounts) => accounts.length === 2);
  assert.equal((await ask(page, 'wallet_getPermissions')).result[0].parentCapability, 'eth_accounts');
  assert.equal((await ask(page, 'net_version')).result, '31337');

  // What is not listed is refused, also for a page that is connected; the gateway hears nothing of it, and its metrics say so.
  assert.equal((await ask(page, 'eth_signAuthorization', [{ from: FROM, address: OTHER }])).code, 4200);
  for (const method of ['eth_config', 'eth_sendRawTransactionConditional', 'health_status', 'chancery_preflight', 'constructor']) {
    assert.equal((await ask(page, method, [])).code, 4200, method);
  }
  assert.deepEqual(await rawly(page, { method: ['eth_call'], params: [] }), { code: -32600, message: 'the method is no text' });

  // Signatures: asked for, refused by the user, by the policy, and by the wallet.
  const paid = await decided(browser, page, true, 'eth_sendTransaction', [payment()]);
  assert.match(paid.result ?? JSON.stringify(paid), /^0x[0-9a-f]{64}$/);
  assert.match(paid.shown, /Value\s+0\.000000000000000001\n/);
  const receipt = await eventually('it is mined', async () => (await ask(page, 'eth_getTransactionReceipt', [paid.result])).result);
  assert.equal(receipt.status, '0x1');
  assert.equal((await decided(browser, page, false, 'eth_sendTransaction', [payment()])).code, 4001);
  const denied = await decided(browser, page, true, 'eth_sendTransaction', [payment({ to: STRANGER })]);
  assert.deepEqual([denied.code, denied.data.code, denied.data.rule], [-32003, 'transaction_denied', 'blocked']);
  assert.equal((await ask(page, 'eth_sendTransaction', [payment({ from: FRIEND })])).code, 4100);
  const said = await decided(browser, page, true, 'personal_sign', ['0x4578616d706c6520e282ac', OTHER]);
  assert.equal(said.result.length, 132);
  assert.match(said.shown, /Message\s+Example €/);
  assert.equal((await decided(browser, page, true, 'personal_sign', ['0x6e6f', OTHER])).code, 4100);

  // What there is no such thing as, and what is no request.
  for (const method of ['wallet_sendCalls', 'anvil_nodeInfo', 'eth_nothing']) assert.equal((await ask(page, method, [])).code, 4200, method);
  assert.match((await ask(page, 'eth_signTypedData', [[{ type: 'string', name: 'x', value: 'y' }], FROM])).message, /_v4/);
  assert.equal((await ask(page, 'eth_getBalance', ['x'])).code, -32602);
  assert.equal(await page.evaluate(() => window.wallet.request('eth_accounts').catch(({ code }) => code)), -32600);
  assert.equal((await ask(page, 'wallet_switchEthereumChain', [{ chainId: 10 }])).code, -32602);
  assert.equal((await ask(page, 'wallet_switchEthereumChain', [{ chainId: '0x1' }])).code, 4902);
  assert.equal((await ask(page, 'wallet_addEthereumChain', [{ chainId: '0x1', rpcUrls: ['https://evil.example'] }])).code, 4200);

  // News, until the chain is changed.
  assert.equal(typeof (await ask(page, 'eth_subscribe', ['newHeads'])).result, 'string');
  await decided(browser, page, true, 'eth_sendTransaction', [payment()]);
  await told(page, 'message', ({ type, data }) => type === 'eth_subscription' && data.result.number);
  // The user is asked whether the page may go there; the second time it has been.
  const switched = await decided(browser, page, true, 'wallet_switchEthereumChain', [{ chainId: '0xa' }]);
  assert.equal(switched.result, null);
  assert.match(switched.shown, /to another chain\?[^]*Chain\s+Two \(10\)/);
  await told(page, 'chainChanged', (chainId) => chainId === '0xa');
  for (const chainId of ['0x7a69', '0xa']) {
    assert.equal((await ask(page, 'wallet_switchEthereumChain', [{ chainId }])).result, null);
    await told(page, 'chainChanged', (told) => told === chainId);
  }
  assert.equal((await ask(page, 'eth_chainId')).result, '0xa');
  const there = await decided(browser, page, true, 'eth_sendTransaction', [payment()]);
  assert.match(there.shown, /Chain\s+Two \(10\)/);
  assert.match(there.result ?? JSON.stringify(there), /^0x/);

  // The user changes his mind about the accounts.
  const origin = new URL(page.url()).origin;
  const of = (what) => `fieldset[data-origin="${origin}"] ${what}`;
  const row = (account) => `label:has(input[value="${account.toLowerCase()}"])`;
  // Nothing is clicked on a page that lies behind another.
  await options.bringToFront();
  await options.waitForSelector(of(row(OTHER)));
  await options.click(of(`${row(OTHER)} button`));
  await told(page, 'accountsChanged', ([first]) => first === OTHER.toLowerCase());
  await options.waitForSelector(of(`${row(OTHER)}:has(button:disabled)`));
  await options.click(of(`${row(FROM)} input`));
  await told(page, 'accountsChanged', (accounts) => accounts.length === 1);
  assert.equal((await ask(page, 'eth_sendTransaction', [payment()])).code, 4100, 'it may not use it any more');
  await page.bringToFront();
  // A page that is loaded anew is known still, and a frame in it is nobody.
  await page.reload();
  await discover(page);
  assert.deepEqual((await ask(page, 'eth_accounts')).result, lower([OTHER]));
  await frames(page);
  assert.equal((await ask(page, 'wallet_revokePermissions', [{ eth_accounts: {} }])).result, null);
  await told(page, 'accountsChanged', (accounts) => accounts.length === 0);
  assert.equal((await ask(page, 'eth_blockNumber')).code, 4100);
  await page.close();
}

/** A frame of another origin sees no wallet, and cannot speak in its page’s name. */
async function frames(page) {
  await page.evaluate(async (src) => {
    const frame = Object.assign(document.createElement('iframe'), { src });
    const loaded = new Promise((resolve) => (frame.onload = resolve));
    document.body.append(frame);
    await loaded;
  }, await site());
  const frame = page.frames().find((one) => one !== page.mainFrame());
  const announced = await frame.evaluate(async () => {
    let seen = 0;
    window.addEventListener('eip6963:announceProvider', () => (seen += 1));
    window.dispatchEvent(new Event('eip6963:requestProvider'));
    window.parent.postMessage({ channel: 'chancery-wallet', to: 'extension', id: 1, text: '{"method":"eth_requestAccounts","params":[]}' }, '*');
    await new Promise((resolve) => setTimeout(resolve, 500));
    return seen;
  });
  assert.equal(announced, 0);
}

/** The page with which MetaMask is tested. */
async function dapp(browser) {
  const page = await browser.newPage();
  const said = [];
  page.on('console', (message) => said.push(message.text()));
  await page.goto(await site(DAPP));
  const press = async (name) => {
    await page.waitForFunction((id) => document.getElementById(id)?.disabled === false, { timeout: 20_000 }, name);
    await page.evaluate((id) => document.getElementById(id).click(), name);
  };
  const says = (name, what) =>
    eventually(`${name} says ${what}`, async () => {
      const text = await page.evaluate((id) => document.getElementById(id)?.innerText ?? '', name);
      return new RegExp(what, 'i').test(text);
    });
  await (await page.waitForSelector('#providers ::-p-text(Use Chancery)', { timeout: 20_000 })).click();
  await says('activeProviderName', 'Chancery');
  await press('connectButton');
  await decide(browser, true);
  await says('accounts', FROM.slice(0, 6));
  await says('chainId', '0x7a69');

  await press('personalSign');
  assert.match(await decide(browser, true), /Message\s+Example `personal_sign` message/);
  await says('personalSignResult', '^0x[0-9a-f]{130}$');
  await press('personalSignVerify');
  // It forgets what it has found out when the wallet knows no `personal_ecRecover`.
  await eventually('it is verified', () => said.includes(`SigUtil Successfully verified signer as ${FROM.toLowerCase()}`));

  await press('sendEIP1559Button');
  assert.match(await decide(browser, true), /a transaction/);
  await press('signTypedDataV3');
  assert.match(await decide(browser, true), /typed data, Mail\nContract\s+0xCcCC[^]*Name\s+Ether Mail\n/);
  await says('signTypedDataV3Result', '^0x[0-9a-f]{130}$');
  await press('signTypedDataV3Verify');
  await says('signTypedDataV3VerifyResult', FROM.toLowerCase());
  await press('signPermit');
  assert.match(await decide(browser, true), /typed data, Permit\nContract\s+0xCcCC[^]*spender[^]*0x5B38Da6a/);
  await says('signPermitResult', '^0x[0-9a-f]{130}$');
  await press('signPermitVerify');
  await says('signPermitVerifyResult', FROM.toLowerCase());
  // It names a type that nothing uses, of which libraries make different things; the page is told.
  await press('signTypedDataV4');
  assert.match(await decide(browser, true), /typed data, Mail\nContract\s+0xCcCC/);
  await says('signTypedDataV4Result', '^Error: .*`Group` is not used by `Mail`');
  await page.close();
}

/** A gateway that goes away is told, and so is what is asked of it then. */
async function gone(browser, options) {
  const page = await browser.newPage();
  await page.goto(await site());
  await discover(page);
  await Promise.all([ask(page, 'eth_requestAccounts'), decide(browser, true)]);
  await told(page, 'connect', () => true);
  await options.bringToFront();
  for (const left of [1, 0]) {
    await options.click('#gateways button');
    await options.waitForFunction((left) => document.querySelectorAll('#gateways li').length === left, {}, left);
  }
  await told(page, 'disconnect', () => true);
  const refused = await ask(page, 'eth_blockNumber');
  assert.equal(refused.code, 4900);
  assert.match(refused.message, /no gateway is set/);
  await page.close();
}

/** Pages of other origins, which attack with all that a browser lets them do. Each says what it got. */
async function attacks(browser) {
  const page = await browser.newPage();
  await page.goto(await site());
  const transaction = payment({ to: PREY, value: '0x64' });
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_sendTransaction', params: [transaction] });
  const got = await page.evaluate(
    async (url, body) => {
      const attempt = (act) => act().then((answer) => answer, (error) => `failed: ${error.name}`);
      const read = async (response) => (response.type === 'opaque' ? 'opaque' : response.text());
      const send = (more) => fetch(url, { method: 'POST', body, credentials: 'include', ...more }).then(read);
      const got = {
        plain: await attempt(() => send({ mode: 'no-cors', headers: { 'content-type': 'text/plain' } })),
        untyped: await attempt(() => send({ mode: 'no-cors', body: new Blob([body]) })),
        json: await attempt(() => send({ headers: { 'content-type': 'application/json' } })),
        cors: await attempt(() => send({ headers: { 'content-type': 'text/plain' } })),
        get: await attempt(() => fetch(url, { credentials: 'include' }).then(read)),
        beacon: navigator.sendBeacon(url, new Blob([body], { type: 'text/plain' })),
      };
      try {
        got.typedBeacon = navigator.sendBeacon(url, new Blob([body], { type: 'application/json' }));
      } catch (error) {
        got.typedBeacon = `failed: ${error.name}`;
      }
      got.socket = await new Promise((resolve) => {
        const socket = new WebSocket(url.replace(/^http/, 'ws'));
        socket.onopen = () => socket.send(body);
        socket.onmessage = ({ data }) => resolve(data);
        socket.onclose = () => resolve('closed');
      });
      // A form whose one field makes a body of JSON.
      const half = body.indexOf(':') + 1;
      got.form = await new Promise((resolve) => {
        const frame = Object.assign(document.createElement('iframe'), { name: 'target' });
        document.body.append(frame);
        const form = Object.assign(document.createElement('form'), { action: url, method: 'post', enctype: 'text/plain', target: 'target' });
        form.append(Object.assign(document.createElement('input'), { name: body.slice(0, half) + '"', value: '"' + body.slice(half) }));
        document.body.append(form);
        frame.onload = () => resolve('loaded');
        form.submit();
        setTimeout(() => resolve('nothing'), 3000);
      });
      return got;
    },
    ONE,
    body,
  );
  // What was sent away without an answer is to arrive before anything is looked at.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.doesNotMatch(JSON.stringify(got), /result|0x[0-9a-f]{64}/, JSON.stringify(got));
  assert.equal(got.socket, 'closed');
  await page.close();
}

/** The number of transactions that the node has of an account. */
async function count(address) {
  const call = { jsonrpc: '2.0', id: 1, method: 'eth_getTransactionCount', params: [address, 'pending'] };
  const answer = await fetch(NODE_URL, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(call) });
  return Number((await answer.json()).result);
}

/** A yes is one payment, whatever becomes of the connection on which it was said. */
async function once(browser, between) {
  const page = await browser.newPage();
  await page.goto(await site());
  await discover(page);
  await Promise.all([ask(page, 'eth_requestAccounts'), decide(browser, true)]);
  const before = await count(FROM);
  // Connections that were used are repeated on by the browser itself, so there is to be one.
  await ask(page, 'eth_blockNumber');
  between.cuts = 1;
  const paid = await decided(browser, page, true, 'eth_sendTransaction', [payment()]);
  assert.match(paid.result ?? JSON.stringify(paid), /^0x[0-9a-f]{64}$/);
  assert.equal(between.lost, 1);
  assert.equal((await ask(page, 'eth_getTransactionByHash', [paid.result])).result.nonce, `0x${before.toString(16)}`);
  assert.equal(await count(FROM), before + 1);

  between.cuts = 100;
  const lost = await decided(browser, page, true, 'eth_sendTransaction', [payment()]);
  between.cuts = 0;
  assert.equal(lost.code, -32603);
  assert.match(lost.message, /not known whether the gateway took it: look at the account/);
  assert.ok(between.lost > 3, `it was tried again: ${between.lost}`);
  assert.equal(await count(FROM), before + 2);
  between.down = true;
  const raw = await ask(page, 'eth_sendRawTransaction', ['0x00']);
  between.down = false;
  assert.deepEqual([raw.code, raw.message], [-32603, lost.message]);
  assert.equal((await ask(page, 'wallet_revokePermissions', [{ eth_accounts: {} }])).result, null);
  await page.close();
}

/** A gateway of chain 3 that is made up: it says what a test wants, and keeps what it was asked. */
async function madeUp() {
  const made = { asked: [], says: { eth_chainId: () => ({ result: '0x3' }) } };
  const server = http.createServer(async (request, response) => {
    let text = '';
    for await (const piece of request) text += piece;
    const { id, method } = JSON.parse(text);
    made.asked.push({ method, text, key: request.headers['idempotency-key'] });
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ jsonrpc: '2.0', id, ...made.says[method]() }));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return Object.assign(made, { url: `http://127.0.0.1:${server.address().port}/` });
}

/** A page of an origin of its own. */
async function stranger(browser) {
  const page = await browser.newPage();
  await page.goto(await site());
  await discover(page);
  return page;
}

/** One that may use an account. */
async function guest(browser) {
  const page = await stranger(browser);
  const [{ result }] = await Promise.all([ask(page, 'eth_requestAccounts'), decide(browser, true)]);
  assert.equal(result.length, 1);
  return page;
}

const isGone = (page) => page.isClosed() || new Promise((resolve) => page.once('close', resolve));

/** What a page that is not let in can do with the wallet and its gateway: little, and it learns nothing. */
async function strangers(browser, between) {
  const page = await stranger(browser);
  const before = between.asked.split('"eth_accounts"').length;
  const [answers] = await Promise.all([
    page.evaluate(() => Promise.all(Array.from({ length: 200 }, () => window.wallet.request({ method: 'eth_requestAccounts' }).catch(({ code }) => code)))),
    decide(browser, false),
  ]);
  assert.equal(answers.filter((code) => code === 4001).length, 1);
  assert.ok(answers.every((code) => [4001, -32002, -32005].includes(code)), JSON.stringify(answers));
  assert.equal(between.asked.split('"eth_accounts"').length, before + 1, 'the gateway is asked once');

  between.down = true;
  const refused = await ask(page, 'eth_requestAccounts');
  between.down = false;
  assert.deepEqual(refused, { code: 4900, message: 'the wallet cannot reach its gateway' });

  // Who is told no again and again is not to ask.
  for (const _ of [2, 3]) assert.equal((await decided(browser, page, false, 'eth_requestAccounts')).code, 4001);
  const heard = between.asked.split('"eth_accounts"').length;
  const { code, message } = await ask(page, 'eth_requestAccounts');
  assert.equal(between.asked.split('"eth_accounts"').length, heard, 'nor is the gateway asked');
  assert.deepEqual([code, /said no several times/.test(message)], [-32005, true]);
  await page.close();
}

/** Questions: no more than a user can answer, and none of a page that is gone. */
async function questions(browser, between) {
  const page = await guest(browser);
  // More than may be under way at once.
  let release;
  between.hold = new Promise((resolve) => (release = resolve));
  const many = page.evaluate(() => Promise.all(Array.from({ length: 100 }, () => window.wallet.request({ method: 'eth_blockNumber' }).catch(({ code }) => code))));
  const over = await ask(page, 'eth_blockNumber');
  assert.equal(over.code, -32005);
  release();
  between.hold = undefined;
  assert.equal((await many).filter((code) => code === -32005).length, 36);

  const sign = ['personal_sign', ['0x4578616d706c65', FROM]];
  await page.evaluate(
    ([method, params]) => {
      window.answers = [];
      for (let i = 0; i < 9; i += 1) window.wallet.request({ method, params }).catch(({ code }) => window.answers.push(code));
    },
    sign,
  );
  const first = await question(browser);
  await page.waitForFunction(() => window.answers.length === 1);
  assert.deepEqual(await page.evaluate(() => window.answers), [-32005]);
  const other = await guestLater(browser);
  await page.goto('about:blank');
  await isGone(first);
  // All eight are gone; the next question is another page's.
  assert.match(await decide(browser, true), new RegExp(other.host));
  assert.equal((await other.asked).result.length, 1);

  // One that the user closes before it could say what it is for is a no.
  await (await worker(browser, EXTENSION)).evaluate(() => {
    chrome.windows.onCreated.addListener(function close({ id }) {
      chrome.windows.onCreated.removeListener(close);
      chrome.windows.remove(id);
    });
  });
  assert.equal((await ask(other.page, ...sign)).code, 4001);

  // The browser ends the extension's worker when it likes: nobody hears the answer then, and subscriptions are gone.
  assert.equal(typeof (await ask(other.page, 'eth_subscribe', ['newHeads'])).result, 'string');
  await other.page.evaluate(() => (window.told = []));
  const asked = ask(other.page, ...sign);
  const left = await question(browser);
  await left.waitForSelector('#accept:not([disabled])');
  await (await worker(browser, EXTENSION)).close();
  await isGone(left);
  const { code, message } = await asked;
  assert.deepEqual([code, /look at the account/.test(message)], [-32603, true]);
  await told(other.page, 'disconnect', () => true);
  await told(other.page, 'connect', () => true);
  await eventually('the worker is there again', async () => (await ask(other.page, 'eth_accounts')).result?.length === 1);
  assert.equal((await decided(browser, other.page, true, ...sign)).result.length, 132);
  await page.close();

  // A page that is put away and taken out again is known, and its provider works.
  await other.page.evaluate(() => (window.kept = true));
  await other.page.goto(await site());
  await other.page.goBack();
  assert.equal(await other.page.evaluate(() => window.kept), true, 'it was put away');
  assert.equal((await ask(other.page, 'eth_accounts')).result.length, 1);
  await other.page.close();
}

/** A page that asks to be let in, and waits. */
async function guestLater(browser) {
  const page = await stranger(browser);
  return { page, host: new URL(page.url()).host, asked: ask(page, 'eth_requestAccounts') };
}

/** A page that the browser makes ready before anybody asks to see it is nobody until then; it tells its site what it was answered. */
async function prerendered(browser) {
  const html = `<!doctype html><title>a page</title>
    <script>
      const asked = (id) => new Promise((resolve) => {
        const isAnswer = (data) => data.to === 'page' && data.id === id;
        addEventListener('message', ({ data }) => isAnswer(data) && resolve(data.error?.code ?? data.result));
        const text = '{"method":"eth_accounts","params":[]}';
        window.postMessage({ channel: 'chancery-wallet', to: 'extension', id, text }, origin);
      });
      const tell = async (when, id) => fetch('/told', { method: 'POST', body: JSON.stringify([when, await asked(id)]) });
      document.addEventListener('prerenderingchange', () => tell('shown', 8));
      addEventListener('load', () => tell(document.prerendering ? 'made ready' : 'loaded', 7));
    </script>`;
  // The one that is made ready has no such rules: the driver would follow what it makes ready in its turn.
  const rules = '<script type="speculationrules">{"prerender":[{"urls":["/next"],"eagerness":"immediate"}]}</script>';
  const told = [];
  const at = await site(undefined, async (request) => {
    if (request.url !== '/told') return request.url === '/' ? html + rules : html;
    told.push((await request.toArray()).join(''));
    return '';
  });
  const page = await browser.newPage();
  await page.goto(at);
  await eventually('it is made ready', () => told.length === 2);
  await page.evaluate(() => void (location.href = '/next')).catch(() => {});
  await eventually('it is shown', () => told.length === 3);
  assert.deepEqual(told, ['["loaded",[]]', '["made ready",4100]', '["shown",[]]']);
  await page.close();
}

/** What the user sees is what is sent, and hides nothing. */
async function shown(browser, options) {
  const gateway = await madeUp();
  await options.bringToFront();
  await options.type('#add [name=name]', 'Three');
  await options.type('#add [name=url]', gateway.url);
  await options.click('#add button');
  await options.waitForFunction(() => document.getElementById('gateways').innerText.includes('Three'));
  const page = await guest(browser);
  const { host } = new URL(page.url());
  assert.equal((await decided(browser, page, true, 'wallet_switchEthereumChain', [{ chainId: '0x3' }])).result, null);

  const hash = `0x${'ab'.repeat(32)}`;
  gateway.says.eth_sendTransaction = () => ({ result: hash });
  const paid = await decided(browser, page, true, 'eth_sendTransaction', [payment({ gas: '0x5208', maxFeePerGas: '0x3b9aca00', chainId: null })]);
  assert.equal(paid.result, hash);
  assert.match(paid.shown, /Greatest fee\s+0\.000021\n/);
  const { text, key } = gateway.asked.at(-1);
  assert.equal(JSON.parse(text).params[0].chainId, '0x3', 'it is good on the chain that was shown, and on no other');
  assert.match(key, /^[0-9a-f-]{36}$/);
  assert.match((await decided(browser, page, true, 'eth_sendTransaction', [payment({ data: 5 })])).shown, /Data\s+5\n/);

  // Text that turns round, or is not seen.
  gateway.says.personal_sign = () => ({ result: '0x' });
  const hidden = `0x${Buffer.from('pay \u202eevil\u200b\u2028\nnow').toString('hex')}`;
  assert.match((await decided(browser, page, true, 'personal_sign', [hidden, FROM])).shown, /pay \\u\{202e\}evil\\u\{200b\}\\u\{2028\}\nnow/);

  // A sign-in is for the page that asks for it.
  const signIn = (domain) => `0x${Buffer.from(`${domain} wants you to sign in with your Ethereum account:\n${FROM}\n`).toString('hex')}`;
  for (const domain of ['bank.example', `http://bank.example`, `https://${host}`, `${host}@bank.example`, `${host}/x`, '']) {
    for (const [method, params] of [['personal_sign', [signIn(domain), FROM]], ['eth_sign', [FROM, signIn(domain)]]]) {
      const { code, message } = await ask(page, method, params);
      assert.deepEqual([code, /may not sign in to/.test(message)], [4100, true], domain);
    }
  }
  assert.equal((await decided(browser, page, true, 'personal_sign', [signIn(host), FROM])).result, '0x');

  // What two readers could read in two ways is shown as one does, and sent so.
  gateway.says.eth_signTypedData_v4 = () => ({ result: '0x' });
  const typed = '{"primaryType":"A","primaryType":"B","domain":{"name":"N at 0x1","verifyingContract":"0x2"}}';
  const signed = await decided(browser, page, true, 'eth_signTypedData_v4', [FROM, typed]);
  assert.match(signed.shown, /typed data, B\nContract\s+0x2\nName\s+N at 0x1\n/);
  assert.equal(JSON.parse(gateway.asked.at(-1).text).params[1], typed.replace('"primaryType":"A",', ''));
  assert.equal((await ask(page, 'eth_signTypedData_v4', [FROM, '{'])).code, -32602);

  // Answers that are not as others.
  gateway.says.eth_blockNumber = () => ({ id: null, error: { code: -32603, message: 'a queue is full' } });
  assert.equal((await ask(page, 'eth_blockNumber')).message, 'a queue is full');
  gateway.says.eth_getCode = () => ({ result: `0x${'00'.repeat(11 * 1024 * 1024)}` });
  assert.equal((await ask(page, 'eth_getCode', [FROM, 'latest'])).code, -32008);
  await options.bringToFront();
  await options.click('#gateways li:last-child button');
  await options.waitForFunction(() => !document.getElementById('gateways').innerText.includes('Three'));
  await page.close();
}

/** What was taken away stays so, and subscriptions end with what they were made under. */
async function forgotten(browser, options, between) {
  const page = await guest(browser);
  const subscribe = async () => {
    assert.equal(typeof (await ask(page, 'eth_subscribe', ['newHeads'])).result, 'string');
    return eventually('there is a socket', () => [...between.sockets][0]);
  };
  const socket = await subscribe();
  await told(page, 'connect', () => true);
  await page.evaluate(() => (window.told = []));
  socket.resetAndDestroy();
  await told(page, 'disconnect', () => true);
  assert.match((await ask(page, 'eth_blockNumber')).result, /^0x/);
  await told(page, 'connect', () => true);
  await subscribe();

  // While the options change what a page may use, the worker waits, and then leaves it as it is.
  await decided(browser, page, true, 'wallet_switchEthereumChain', [{ chainId: '0xa' }]);
  await eventually('the subscription of the other chain ends', () => between.sockets.size === 0);
  const { origin } = new URL(page.url());
  await options.evaluate(() => {
    const held = new Promise((resolve) => (window.release = resolve));
    navigator.locks.request('sites', () => held);
  });
  const asked = ask(page, 'wallet_switchEthereumChain', [{ chainId: '0x7a69' }]);
  await eventually('the worker waits', () => options.evaluate(async () => (await navigator.locks.query()).pending.length === 1));
  await options.evaluate(async (origin) => {
    const { sites } = await chrome.storage.local.get('sites');
    delete sites[origin];
    await chrome.storage.local.set({ sites });
    window.release();
  }, origin);
  assert.equal((await asked).result, null);
  assert.equal(await options.evaluate(async (origin) => (await chrome.storage.local.get('sites')).sites[origin] === undefined, origin), true);

  await Promise.all([ask(page, 'eth_requestAccounts'), decide(browser, true)]);
  await subscribe();
  // The user can forget a page while the gateway says nothing.
  let release;
  between.hold = new Promise((resolve) => (release = resolve));
  await options.reload();
  await options.waitForSelector(`fieldset[data-origin="${origin}"]`, { timeout: 20_000 });
  release();
  between.hold = undefined;
  assert.equal((await ask(page, 'wallet_revokePermissions', [{ eth_accounts: {} }])).result, null);
  await eventually('the subscription ends', () => between.sockets.size === 0);
  await page.close();
}

/** Raw transactions of an account that MetaMask would have the key of: what it sends to a custom network. */
async function metamask(browser) {
  const key = new Wallet('0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba');
  const look = async (run) => {
    const nonce = await count(key.address);
    const sign = (to) =>
      key.signTransaction({ chainId: 31337, nonce, to, value: 1, gasLimit: 21000, maxFeePerGas: 5_000_000_000, maxPriorityFeePerGas: 1, type: 2 });
    const said = await run({ url: ONE, chainId: '0x7a69', account: key.address, allowed: await sign(FRIEND), denied: await sign(STRANGER) });
    assert.equal(said.version.result, '31337', JSON.stringify(said));
    assert.match(said.block, /^0x/);
    assert.equal(said.gas.result, '0x5208');
    assert.match(said.allowed.result ?? JSON.stringify(said), /^0x[0-9a-f]{64}$/);
    assert.match(JSON.stringify(said.denied), /-32003[^]*transaction_denied/);
    await eventually('it is mined', async () => (await count(key.address)) === nonce + 1);
  };
  const stack = await worker(browser, STACK);
  await look((what) => stack.evaluate((what) => self.trial(what), what));
  // In Node there is no certificate, but the connector's.
  if (MODE === 'connector') {
    await look((what) => JSON.parse(execFileSync('node', [METAMASK, JSON.stringify(what)]).toString().trim().split('\n').at(-1)));
  }
}

let doing = 'the start';

async function main() {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    pipe: true,
    userDataDir: path.join(HOME, 'profile'),
    enableExtensions: process.env.EXTENSIONS.split(','),
    env: { ...process.env, HOME },
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      // The test page looks for services of its makers'.
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });
  try {
    await worker(browser, EXTENSION);
    const options = await browser.newPage();
    await options.goto(`chrome-extension://${EXTENSION}/options.html`);
    const between = MODE === 'connector' ? await relay(ONE) : undefined;
    if (MODE === 'connector') {
      for (const [name, url] of [['One', between.url], ['Two', TWO]]) {
        await options.type('#add [name=name]', name);
        await options.type('#add [name=url]', url);
        await options.click('#add button');
        await options.waitForFunction((name) => document.getElementById('gateways').innerText.includes(name), {}, name);
      }
      await options.click('#announceAsMetaMask');
    } else {
      // What an administrator has set is not the user's to change.
      await options.waitForSelector('#announceAsMetaMask:disabled');
      assert.equal(await options.$eval('#add', (form) => form.hidden), true);
    }
    const step = async (name, act) => {
      const began = Date.now();
      doing = name;
      await act();
      console.log(`${MODE}: ${name}: ${Date.now() - began} ms`);
    };
    await step('wallet', () => wallet(browser, options));
    // Soon, for the browser ends a worker that has nothing to do.
    await step('metamask', () => metamask(browser));
    if (between) {
      await step('once', () => once(browser, between));
      await step('strangers', () => strangers(browser, between));
      await step('questions', () => questions(browser, between));
      await step('prerendered', () => prerendered(browser));
      await step('shown', () => shown(browser, options));
      await step('forgotten', () => forgotten(browser, options, between));
    }
    await step('test-dapp', () => dapp(browser));
    await step('attacks', () => attacks(browser));
    if (MODE === 'connector') await step('gone', () => gone(browser, options));
  } catch (error) {
    // What is still being asked fails with the browser's end, and would be all that is said.
    console.error(`${MODE}: ${doing}:`, error);
    throw error;
  } finally {
    await browser.close();
  }
}

// Whatever hangs, the browser ends, and it is told where.
setTimeout(() => {
  console.error(`it hangs: ${doing}`);
  process.exit(1);
}, 110_000).unref();

main().then(
  () => console.log('all is well'),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
