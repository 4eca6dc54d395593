// The way to a gateway: one call, its answer, and what went wrong in words and codes that pages know (EIP-1193, EIP-1474).

import { settings, wrongUrl } from './settings.js';

// A signature that takes longer has an outcome that nobody knows.
const ANSWER_WITHIN = 60_000;

/** An error as a page gets it. */
export class RpcError extends Error {
  constructor(code, message, data) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

export const UNREACHABLE = 4900;

let next = 0;

/** Asks a gateway. */
export async function call(url, method, params) {
  const id = (next += 1);
  let response;
  let body;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
      // The client certificate goes with what a browser calls credentials.
      credentials: 'include',
      cache: 'no-store',
      redirect: 'error',
      signal: AbortSignal.timeout(ANSWER_WITHIN),
    });
    body = await response.text();
  } catch (error) {
    if (error.name === 'TimeoutError') {
      throw new RpcError(-32603, 'the gateway did not answer in time: look at the account before you ask again');
    }
    const host = new URL(url).host;
    throw new RpcError(
      UNREACHABLE,
      `the gateway at ${host} cannot be reached: is it running, and does this browser have the client certificate for it?`,
    );
  }
  if (!response.ok) throw new RpcError(UNREACHABLE, refused(response.status, body));
  let answer;
  try {
    answer = JSON.parse(body);
  } catch {
    throw new RpcError(-32603, 'the gateway’s answer is no JSON');
  }
  if (answer?.id !== id || (answer.error === undefined) === (answer.result === undefined)) {
    throw new RpcError(-32603, 'the gateway’s answer is not one to what was asked');
  }
  if (answer.error) {
    const { code, message, data } = answer.error;
    // The gateway’s own codes are those of EIP-1193 already, but for what there is no method for.
    throw new RpcError(code === -32601 ? 4200 : code, message, data);
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

/** The chain ids of gateways, by URL. A gateway’s chain does not change. */
const known = new Map();

async function chainOf(gateway) {
  if (!known.has(gateway.url)) known.set(gateway.url, await call(gateway.url, 'eth_chainId', []));
  return { ...gateway, chainId: known.get(gateway.url) };
}

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
