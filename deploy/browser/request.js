// From what a page asks to what the user is shown and the gateway gets, which are one and the same.

import { RpcError } from './gateway.js';
import { isTransaction, text } from './describe.js';

/** The parameters as they are shown and sent: of this chain, of this page, and read in one way only. */
export function prepared(method, params, chain, origin) {
  if (isTransaction(method)) {
    // What is signed is good on the chain that is shown, and on no other. One that names another is the gateway’s to refuse.
    const [transaction, ...more] = params;
    return [{ ...transaction, chainId: transaction.chainId ?? chain.chainId }, ...more];
  }
  if (method === 'personal_sign' || method === 'eth_sign') {
    const elsewhere = signsInElsewhere(text(method === 'eth_sign' ? params[1] : params[0], { fatal: false }), origin);
    if (elsewhere) throw new RpcError(4100, `this page may not sign in to ${elsewhere}`);
    return params;
  }
  const [account, typed, ...more] = params;
  if (typeof typed !== 'string') return params;
  try {
    // A key that stands there twice, say, is shown and sent once.
    return [account, JSON.stringify(JSON.parse(typed)), ...more];
  } catch {
    throw new RpcError(-32602, 'the typed data is no JSON');
  }
}

/** Where else than at this page a message signs in (ERC-4361); nothing if it does not, or does so here. */
function signsInElsewhere(message, origin) {
  const [first] = String(message).trimStart().split('\n', 1);
  const at = first.search(/ ?wants you to sign in with your /i);
  if (at < 0) return undefined;
  const named = first.slice(0, at);
  const page = new URL(origin);
  try {
    const url = new URL(named.includes('://') ? named : `${page.protocol}//${named}`);
    const isPlain = url.pathname === '/' && !/[@\\?#\s]/.test(named);
    if (isPlain && url.protocol === page.protocol && url.host === page.host) return undefined;
  } catch {
    // It is no name of a host.
  }
  return named.slice(0, 100) || 'nowhere';
}
