// The way to a gateway: one call, its answer, and what went wrong in words and codes that pages know (EIP-1193, EIP-1474).

import { settings, wrongUrl } from './settings.js';

// A signature that takes longer has an outcome that nobody knows.
const ANSWER_WITHIN = 60_000;

// How long to wait before each attempt at what may be done once only.
const ATTEMPTS = [0, 250, 1000];

// What a browser hands on between an extension and a page is at most 64 MiB, and a letter up to three bytes of that.
const MAX_ANSWER = 20 * 1024 * 1024;

const UNKNOWN = 'it is not known whether the gateway took it: look at the account before you ask again';

/** An error as a page gets it. `isOpen`: the gateway may have done what it was asked, or do it yet. */
export class RpcError extends Error {
  constructor(code, message, data, isOpen = false) {
    super(message);
    this.code = code;
    this.data = data;
    this.isOpen = isOpen;
  }
}

export const UNREACHABLE = 4900;

let next = 0;

/** Asks a gateway for what may be asked again at any time. */
export function call(url, method, params) {
  return attempt(url, method, params, Date.now() + ANSWER_WITHIN);
}

/**
 * Asks a gateway for what may be done once only. Under `key` it is one signature, whoever repeats it: the browser does by itself
 * where a connection that was used before is cut, and so do we. Raw bytes are their own key. Where no attempt was answered nobody
 * knows what became of it; that is never said to be a gateway that cannot be reached, which would have the user pay again.
 */
export async function callOnce(url, method, params, key) {
  const until = Date.now() + ANSWER_WITHIN;
  let last;
  for (const pause of ATTEMPTS) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      return await attempt(url, method, params, until, key);
    } catch (error) {
      if (!error.isOpen && !(last && isForNow(error))) throw error;
      last = error;
    }
    if (Date.now() >= until) break;
  }
  // The gateway's own word names the transaction's hash.
  throw last.data?.hash ? last : new RpcError(-32603, UNKNOWN);
}

/** Whether a refusal says nothing of an earlier attempt at the same: the gateway looked no further than its door, or a queue. */
function isForNow({ code, data }) {
  return [UNREACHABLE, -32603, -32005].includes(code) || data?.code === 'paused';
}

async function attempt(url, method, params, until, key) {
  const id = (next += 1);
  let response;
  let body;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) },
      body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
      // The client certificate goes with what a browser calls credentials.
      credentials: 'include',
      cache: 'no-store',
      redirect: 'error',
      signal: AbortSignal.timeout(Math.max(until - Date.now(), 0)),
    });
    body = await response.text();
  } catch (error) {
    if (error.name === 'TimeoutError') throw new RpcError(-32603, 'the gateway did not answer in time', undefined, true);
    const host = new URL(url).host;
    throw new RpcError(
      UNREACHABLE,
      `the gateway at ${host} cannot be reached: is it running, and does this browser have the client certificate for it?`,
      undefined,
      true,
    );
  }
  if (body.length > MAX_ANSWER) throw new RpcError(-32008, 'the answer is larger than 20 MiB, which a page does not get: ask for less');
  if (!response.ok) throw new RpcError(UNREACHABLE, refused(response.status, body), undefined, response.status >= 500);
  let answer;
  try {
    answer = JSON.parse(body);
  } catch {
    throw new RpcError(-32603, 'the gateway’s answer is no JSON', undefined, true);
  }
  // Of what a gateway could not read, or had no room for, it does not know the id.
  const isMine = answer?.id === id || (answer?.id === null && answer.error);
  if (!isMine || (answer.error === undefined) === (answer.result === undefined)) {
    throw new RpcError(-32603, 'the gateway’s answer is not one to what was asked', undefined, true);
  }
  if (answer.error) {
    const { code, message, data } = answer.error;
    // The gateway’s own codes are those of EIP-1193 already, but for what there is no method for.
    throw new RpcError(code === -32601 ? 4200 : code, message, data, data?.code === 'outcome_unknown');
  }
  return answer.result;
}

function refused(status, body) {
  const said = body.split('\n', 1)[0].slice(0, 200);
  const own = `chrome-extension://${chrome.runtime.id}`;
  if (status === 403) {
    return `the gateway does not let this extension in: add "${own}" to \`origins\` of the client, or start the connector with --allow-origin ${own}`;
  }
  if (status === 404) return 'there is nothing at this URL: does it have the connector’s token, or the name of a chain?';
  return `the gateway answered HTTP ${status}: ${said}`;
}

/** The accounts of this client. In small letters, as other wallets give them: pages compare them letter by letter. */
export async function accountsAt(url) {
  return (await call(url, 'eth_accounts', [])).map((account) => account.toLowerCase());
}

/** The chain ids of gateways, by URL, or the asking for them. A gateway’s chain does not change. */
const known = new Map();

async function chainOf(gateway) {
  const { url } = gateway;
  if (!known.has(url)) {
    const asked = chainIdAt(url);
    known.set(url, asked);
    // However often a page asks, a gateway is asked once a second.
    asked.catch(() => setTimeout(() => known.delete(url), 1000));
  }
  return { ...gateway, chainId: await known.get(url) };
}

/** The chain id that a gateway says now. */
export async function chainIdAt(url) {
  const chainId = await call(url, 'eth_chainId', []);
  if (!isChainId(chainId)) throw new RpcError(-32603, 'the gateway’s chain id is none');
  return chainId;
}

export const isChainId = (text) => typeof text === 'string' && /^0x[1-9a-f][0-9a-f]{0,31}$/i.test(text);

async function usable() {
  const { gateways } = await settings();
  const usable = gateways.filter((gateway) => wrongUrl(gateway.url) === undefined);
  if (usable.length === 0) {
    throw new RpcError(UNREACHABLE, 'no gateway is set: open the extension’s options');
  }
  return usable;
}

/** The chain of a page that never chose one: the first of the settings, and no other while that cannot be reached. */
export async function firstChain() {
  return chainOf((await usable())[0]);
}

/** Every chain that can be reached, in the order of the settings; or why there is none. */
export async function chains() {
  const asked = await Promise.allSettled((await usable()).map(chainOf));
  const there = asked.filter((one) => one.status === 'fulfilled').map((one) => one.value);
  if (there.length === 0) throw asked[0].reason;
  return there;
}
