// In the page's own world: an EIP-1193 provider, announced by EIP-6963. It holds nothing and decides nothing; what a page
// asks of it goes to the extension, which knows the page by what the browser says, not by what is said here.
(() => {
  'use strict';

  const CHANNEL = 'chancery-wallet';
  const pending = new Map();
  const listeners = new Map();
  let next = 0;
  let state = { chainId: undefined, accounts: [], connected: false, known: false };

  class ProviderRpcError extends Error {
    constructor({ code, message, data }) {
      super(message);
      this.name = 'ProviderRpcError';
      this.code = code;
      if (data !== undefined) this.data = data;
    }
  }

  function emit(event, ...values) {
    for (const listener of [...(listeners.get(event) ?? [])]) {
      // A listener that fails is the page's affair, and no reason to leave the others out.
      try {
        listener(...values);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  const provider = {
    isChancery: true,
    isMetaMask: false,
    async request(asked) {
      if (typeof asked !== 'object' || asked === null || typeof asked.method !== 'string' || asked.method === '') {
        throw new ProviderRpcError({ code: -32600, message: 'expected an object with a method' });
      }
      let text;
      try {
        text = JSON.stringify({ method: asked.method, params: asked.params ?? [] });
      } catch {
        throw new ProviderRpcError({ code: -32602, message: 'the parameters are no JSON' });
      }
      const id = (next += 1);
      return new Promise((resolve, reject) => {
        pending.set(id, { resolve, reject });
        window.postMessage({ channel: CHANNEL, to: 'extension', id, text }, window.origin);
      });
    },
    on(event, listener) {
      listeners.set(event, [...(listeners.get(event) ?? []), listener]);
      return provider;
    },
    once(event, listener) {
      const once = (...values) => {
        provider.removeListener(event, once);
        listener(...values);
      };
      return provider.on(event, once);
    },
    removeListener(event, listener) {
      const all = listeners.get(event) ?? [];
      const place = all.lastIndexOf(listener);
      if (place >= 0) listeners.set(event, all.toSpliced(place, 1));
      return provider;
    },
    isConnected: () => state.connected,
  };
  provider.addListener = provider.on;
  provider.off = provider.removeListener;

  // In the order of EIP-1193: first that there is a connection, then what it is of.
  function become(now) {
    const before = state;
    state = { ...before, ...now, known: true };
    if (state.connected && !before.connected) emit('connect', { chainId: state.chainId });
    if (state.chainId !== before.chainId && before.chainId !== undefined) emit('chainChanged', state.chainId);
    if (state.accounts.join() !== before.accounts.join() && before.known) emit('accountsChanged', [...state.accounts]);
    if (!state.connected && before.connected) {
      emit('disconnect', new ProviderRpcError({ code: 4900, message: 'the gateway cannot be reached' }));
    }
  }

  window.addEventListener('message', (event) => {
    const message = event.data;
    if (event.source !== window || message?.channel !== CHANNEL || message.to !== 'page') return;
    if (message.settings) settle(message.settings);
    if (message.state) become(message.state);
    if (message.news) emit('message', { type: 'eth_subscription', data: message.news });
    const asked = pending.get(message.id);
    if (!asked) return;
    pending.delete(message.id);
    if (message.error) asked.reject(new ProviderRpcError(message.error));
    else asked.resolve(message.result ?? null);
  });

  let announced;
  function settle(settings) {
    if (announced) return;
    provider.isMetaMask = settings.announceAsMetaMask === true;
    announced = Object.freeze({
      info: Object.freeze({
        uuid: crypto.randomUUID(),
        name: 'Chancery',
        icon: `data:image/svg+xml,${encodeURIComponent(
          '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><circle cx="48" cy="48" r="44" fill="#7a1f1f"/>' +
            '<circle cx="48" cy="48" r="30" fill="none" stroke="#f2e3c6" stroke-width="4"/>' +
            '<text x="48" y="64" font-size="44" text-anchor="middle" fill="#f2e3c6" font-family="serif">C</text></svg>',
        )}`,
        rdns: 'dev.chancery',
      }),
      provider,
    });
    if (settings.windowEthereum === true && window.ethereum === undefined) {
      window.ethereum = provider;
      window.dispatchEvent(new Event('ethereum#initialized'));
    }
    announce();
  }
  function announce() {
    if (announced) window.dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail: announced }));
  }
  window.addEventListener('eip6963:requestProvider', announce);
})();
