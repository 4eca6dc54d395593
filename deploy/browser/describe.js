// What a request asks for, in a few words; all of it stands below them. Nothing here may fail, whatever a page asks.

const WEI = 10n ** 18n;

export const isTransaction = (method) => method.includes('Transaction');

/**
 * Text in which nothing is hidden: what has no shape, or turns the direction of what stands behind it, is written as its number.
 */
export const plain = (text) =>
  String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (one) => (one === '\n' ? one : `\\u{${one.codePointAt(0).toString(16)}}`));

/** An amount of wei in the chain’s coin, exactly. */
export function coins(amount) {
  let wei;
  try {
    wei = BigInt(amount ?? 0);
  } catch {
    return `${words(amount)} (not a number)`;
  }
  const fraction = (wei % WEI).toString().padStart(18, '0').replace(/0+$/, '');
  return fraction ? `${wei / WEI}.${fraction}` : `${wei / WEI}`;
}

/** The text that a hexadecimal message is; or the message as it came, where it is none. */
export function text(message, { fatal } = { fatal: true }) {
  if (typeof message !== 'string' || !/^0x([0-9a-fA-F]{2})*$/.test(message)) return words(message);
  const bytes = Uint8Array.from(message.slice(2).match(/../g) ?? [], (pair) => parseInt(pair, 16));
  try {
    return new TextDecoder('utf-8', { fatal, ignoreBOM: true }).decode(bytes);
  } catch {
    return message;
  }
}

const words = (value) => (typeof value === 'string' ? value : JSON.stringify(value) ?? 'nothing');

/** The parameters, with typed data as what it is, also where it came as a text. */
export function details({ method, params }) {
  if (isTransaction(method) || !method.startsWith('eth_signTypedData')) return params;
  const [account, typed, ...more] = params;
  return [account, typeof typed === 'string' ? JSON.parse(typed) : typed, ...more];
}

export function described(question) {
  const { method, params } = question;
  const [first, second] = params;
  if (isTransaction(method)) {
    const data = first.data ?? first.input ?? '0x';
    const isHex = typeof data === 'string' && /^0x/.test(data);
    const facts = {
      What: method === 'eth_signTransaction' ? 'a transaction that the page will send' : 'a transaction',
      To: first.to === undefined || first.to === null ? 'a new contract' : words(first.to),
      Value: coins(first.value),
      Data: data === '0x' ? 'none' : isHex ? `${data.slice(0, 10)}… (${(data.length - 2) / 2} bytes)` : words(data),
    };
    const fee = greatestFee(first);
    return fee === undefined ? facts : { ...facts, 'Greatest fee': coins(fee) };
  }
  if (method === 'personal_sign') return { What: 'a message', Message: text(first) };
  if (method === 'eth_sign') return { What: 'a message', Message: text(second) };
  const typed = details(question)[1];
  return {
    What: `typed data, ${words(typed?.primaryType ?? 'of no type')}`,
    Contract: words(typed?.domain?.verifyingContract ?? 'none'),
    Name: words(typed?.domain?.name ?? 'none'),
  };
}

/** What a transaction may cost at most beside its value, where it says so. */
function greatestFee({ gas, maxFeePerGas, gasPrice }) {
  try {
    return BigInt(gas) * BigInt(maxFeePerGas ?? gasPrice);
  } catch {
    return undefined;
  }
}
