// The extension’s worker: knows each page by the origin that the browser gives it, answers what concerns the wallet itself,
// asks the user before an account is shown or a signature made, and hands everything else to the gateway.

import { ask, attend, mayAsk } from './ask.js';
import { RpcError, UNREACHABLE, accountsAt, call, callOnce, chainIdAt, chains, firstChain, isChainId } from './gateway.js';
import { NEWS, OWN, PASSED, RAW, SIGNS } from './methods.js';
import { News } from './news.js';
import { prepared } from './request.js';
import { changeSite, settings, site } from './settings.js';

// Of one page; what it asks beyond is refused at once.
const MAX_UNDER_WAY = 64;

const pages = new Set();

/** The origins that ask the user whether they may have something; each for one thing at a time. */
const asking = new Set();

chrome.runtime.onConnect.addListener((port) => {
  const { origin, frameId, id } = port.sender ?? {};
  if (id !== chrome.runtime.id) return;
  // A page’s process could open a connection by any name; what it cannot do is be of our origin.
  if (port.name === 'confirm' && origin === `chrome-extension://${chrome.runtime.id}`) attend(port);
  if (port.name === 'page' && frameId === 0 && /^https?:\/\//.test(origin ?? '')) welcome(port, origin);
});

chrome.storage.onChanged.addListener(async (changes) => {
  const { sites } = changes;
  const of = (all, origin) => JSON.stringify(all?.[origin]);
  const concerned = (page) => !sites || of(sites.oldValue, page.origin) !== of(sites.newValue, page.origin);
  await Promise.all([...pages].filter(concerned).map(tell));
  // Pages that this worker has forgotten when it was stopped come back, and are told then.
  for (const tab of await chrome.tabs.query({})) chrome.tabs.sendMessage(tab.id, { changed: true }).catch(() => {});
});

chrome.action.onClicked.addListener(() => chrome.runtime.openOptionsPage());

function welcome(port, origin) {
  const gone = new AbortController();
  const page = { port, origin, gone: gone.signal, news: undefined, down: false, underWay: 0 };
  pages.add(page);
  port.onDisconnect.addListener(() => {
    pages.delete(page);
    gone.abort();
    unsubscribe(page);
  });
  port.onMessage.addListener(({ id, text }) => answer(page, id, text));
  greet(page);
}

async function greet(page) {
  const { announceAsMetaMask, windowEthereum } = await settings();
  send(page, { settings: { announceAsMetaMask, windowEthereum } });
  await tell(page);
}

function send(page, message) {
  try {
    page.port.postMessage(message);
  } catch {
    // It is gone.
  }
}

/**
 * What is so for a page now. One that is not connected hears nothing of the gateway, which is not asked for it. Subscriptions end
 * with what they were made under.
 */
async function tell(page) {
  const accounts = await permitted(page.origin);
  if (accounts.length === 0) {
    unsubscribe(page);
    return send(page, { state: { accounts, connected: false } });
  }
  try {
    const chain = await chainFor(page.origin);
    if (page.news?.url !== chain.url) unsubscribe(page);
    // That it could be reached once is no news.
    if (page.down) await chainIdAt(chain.url);
    page.down = false;
    send(page, { state: { accounts, chainId: chain.chainId, connected: true } });
  } catch {
    unsubscribe(page);
    page.down = true;
    send(page, { state: { accounts, connected: false } });
  }
}

async function lost(page) {
  page.down = true;
  send(page, { state: { accounts: await permitted(page.origin), connected: false } });
}

async function answer(page, id, text) {
  if (page.underWay >= MAX_UNDER_WAY) {
    return send(page, { id, error: { code: -32005, message: 'too many calls of this page wait for an answer' } });
  }
  page.underWay += 1;
  try {
    const { method, params } = JSON.parse(text);
    const result = await handle(page, method, params);
    send(page, { id, result });
    if (page.down) await tell(page);
  } catch (error) {
    send(page, { id, error: await told(page, error) });
    if (error.code === UNREACHABLE && !page.down) await lost(page);
  } finally {
    page.underWay -= 1;
  }
}

/** An error as this page gets it. Where the gateway is, and what it says of itself, is nothing for those that are not connected. */
async function told(page, { code = -32603, message, data }) {
  const isOfGateway = code === UNREACHABLE || code === -32603;
  if (!isOfGateway || (await permitted(page.origin)).length > 0) return { code, message, data };
  return { code, message: 'the wallet cannot reach its gateway' };
}

async function handle(page, method, params) {
  if (typeof method !== 'string') throw new RpcError(-32600, 'the method is no text');
  if (OWN.has(method)) return own(page, method, Array.isArray(params) ? params : []);
  if (![SIGNS, RAW, PASSED, NEWS].some((list) => list.has(method))) {
    throw new RpcError(4200, `the method ${method} does not exist here`);
  }
  const { origin } = page;
  const accounts = await permitted(origin);
  if (accounts.length === 0) throw new RpcError(4100, 'this page is not connected: ask for eth_requestAccounts first');
  const chain = await chainFor(origin);
  if (NEWS.has(method)) return subscription(page, chain, method, params);
  if (RAW.has(method)) return callOnce(chain.url, method, params);
  if (PASSED.has(method)) return call(chain.url, method, params);
  if (!Array.isArray(params)) throw new RpcError(-32602, 'the parameters are no list');
  if (method === 'eth_signTypedData' && Array.isArray(params[0])) {
    throw new RpcError(4200, 'typed data of before EIP-712 is not signed: ask for eth_signTypedData_v4');
  }
  const account = SIGNS.get(method)(params);
  const is = (known) => typeof account === 'string' && known.toLowerCase() === account.toLowerCase();
  if (!accounts.some(is)) throw new RpcError(4100, 'this page may not use this account');
  const asked = prepared(method, params, chain, origin);
  await ask({ kind: 'sign', origin, account, chain: named(chain), method, params: asked }, page.gone);
  // One yes is one signature.
  return callOnce(chain.url, method, asked, crypto.randomUUID());
}

/** What concerns the wallet itself. */
async function own(page, method, params) {
  const { origin } = page;
  switch (method) {
    case 'eth_accounts':
      return permitted(origin);
    case 'eth_coinbase':
      return (await permitted(origin))[0] ?? null;
    case 'eth_requestAccounts':
      return connect(page);
    case 'wallet_requestPermissions':
      if (params[0]?.eth_accounts === undefined || Object.keys(params[0]).length !== 1) {
        throw new RpcError(-32602, 'there is the permission eth_accounts, and no other');
      }
      await choose(page);
      return permissions(origin);
    case 'wallet_getPermissions':
      return permissions(origin);
    case 'wallet_revokePermissions':
      await changeSite(origin, () => undefined);
      return null;
    case 'eth_chainId':
      return (await chainFor(origin)).chainId;
    case 'net_version':
      return String(BigInt((await chainFor(origin)).chainId));
    default:
      return changeChain(page, params[0]?.chainId, method);
  }
}

/** The accounts that a page may use; the first is the one that it takes. */
async function permitted(origin) {
  return (await site(origin))?.accounts ?? [];
}

/** A chain as the user knows it. */
const named = ({ name, chainId }) => `${name} (${BigInt(chainId)})`;

/** Has a page ask the user for one thing at a time; for the next it asks neither him nor a gateway. */
async function alone({ origin }, act) {
  if (asking.has(origin)) throw new RpcError(-32002, 'the user is being asked already');
  asking.add(origin);
  try {
    return await act();
  } finally {
    asking.delete(origin);
  }
}

async function connect(page) {
  const accounts = await permitted(page.origin);
  return accounts.length > 0 ? accounts : choose(page);
}

function choose(page) {
  const { origin } = page;
  return alone(page, async () => {
    mayAsk(origin);
    const chain = await chainFor(origin);
    const all = await accountsAt(chain.url);
    if (all.length === 0) throw new RpcError(4100, 'the gateway has no account for this client');
    const { accounts } = await ask({ kind: 'connect', origin, chain: named(chain), accounts: all }, page.gone);
    const chosen = all.filter((account) => accounts.includes(account));
    const { chainId } = chain;
    await changeSite(origin, (known) => ({ accounts: chosen, chainId, chains: [...new Set([...(known?.chains ?? []), chainId])] }));
    return chosen;
  });
}

async function permissions(origin) {
  const accounts = await permitted(origin);
  if (accounts.length === 0) return [];
  const caveats = [{ type: 'restrictReturnedAccounts', value: accounts }];
  return [{ invoker: origin, parentCapability: 'eth_accounts', caveats }];
}

/** The chain that a page is on. */
async function chainFor(origin) {
  const known = await site(origin);
  if (known?.chainId === undefined) return firstChain();
  const chain = (await chains()).find((one) => one.chainId === known.chainId);
  if (!chain) throw new RpcError(4901, `there is no gateway for chain ${BigInt(known.chainId)}`);
  return chain;
}

/** Takes a page to another chain; the first time the user is asked. */
async function changeChain(page, chainId, method) {
  if (!isChainId(chainId)) throw new RpcError(-32602, '`chainId` is no 0x-prefixed number');
  const { origin } = page;
  if ((await permitted(origin)).length === 0) {
    throw new RpcError(4100, 'this page is not connected: ask for eth_requestAccounts first');
  }
  const chain = (await chains()).find((one) => BigInt(one.chainId) === BigInt(chainId));
  if (!chain) {
    const why = `there is no gateway for chain ${BigInt(chainId)}: gateways are set in the extension’s options, not by pages`;
    throw new RpcError(method === 'wallet_addEthereumChain' ? 4200 : 4902, why);
  }
  const known = (await site(origin))?.chains ?? [];
  if (!known.includes(chain.chainId)) {
    await alone(page, () => ask({ kind: 'chain', origin, chain: named(chain) }, page.gone));
  }
  // A page that was forgotten meanwhile stays so.
  const now = { chainId: chain.chainId, chains: [...new Set([...known, chain.chainId])] };
  await changeSite(origin, (site) => site && { ...site, ...now });
  return null;
}

function subscription(page, chain, method, params) {
  if (page.news?.url !== chain.url || page.news.ended) {
    unsubscribe(page);
    page.news = new News(
      chain.url,
      (news) => send(page, { news }),
      // A page that listened on would take silence for no news.
      () => lost(page),
    );
  }
  return page.news.ask(method, params);
}

function unsubscribe(page) {
  page.news?.close();
  page.news = undefined;
}
