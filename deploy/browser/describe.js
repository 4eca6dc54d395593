// What a request asks for, in a few words; all of it stands below them.

const WEI = 10n ** 18n;

/** An amount of wei in the chain’s coin, exactly. */
export function coins(hex) {
  let wei;
  try {
    wei = BigInt(hex ?? 0);
  } catch {
    return `${hex} (not a number)`;
  }
  const fraction = (wei % WEI).toString().padStart(18, '0').replace(/0+$/, '');
  return fraction ? `${wei / WEI}.${fraction}` : `${wei / WEI}`;
}

/** The text that a hexadecimal message is; or the message as it came, where it is none. */
export function text(message) {
  if (typeof message !== 'string' || !/^0x([0-9a-fA-F]{2})*$/.test(message)) return String(message);
  const bytes = Uint8Array.from(message.slice(2).match(/../g) ?? [], (pair) => parseInt(pair, 16));
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return message;
  }
}

export function described({ method, params }) {
  const [first, second] = params;
  if (method.startsWith('eth_sendTransaction') || method === 'eth_signTransaction') {
    const data = first.data ?? first.input ?? '0x';
    return {
      What: method === 'eth_signTransaction' ? 'a transaction that the page will send' : 'a transaction',
      To: first.to ?? 'a new contract',
      Value: coins(first.value),
      Data: data === '0x' ? 'none' : `${data.slice(0, 10)}… (${(data.length - 2) / 2} bytes)`,
    };
  }
  if (method === 'personal_sign') return { What: 'a message', Message: text(first) };
  if (method === 'eth_sign') return { What: 'a message', Message: text(second) };
  let typed = second;
  try {
    typed = typeof second === 'string' ? JSON.parse(second) : second;
  } catch {
    // It is shown as it came, and the gateway says what is wrong.
  }
  return {
    What: `typed data, ${typed?.primaryType ?? 'of no type'}`,
    For: `${typed?.domain?.name ?? 'no name'} at ${typed?.domain?.verifyingContract ?? 'no contract'}`,
  };
}
