// A page’s subscriptions: a WebSocket to the gateway, opened with the first of them.

import { RpcError, UNREACHABLE } from './gateway.js';

const MAX_WAITING = 64;

// The browser stops a worker that hears nothing for half a minute, and with it the subscriptions.
const ALIVE = 20_000;

const unreachable = () => new RpcError(UNREACHABLE, 'the gateway’s WebSocket for subscriptions cannot be reached');

export class News {
  #socket;
  #open;
  #asked = 0;
  #waiting = new Map();
  #next = 0;
  ended = false;

  /** `hear` is told of what a subscription brings: `{ subscription, result }`; `lost`, that there will be no more. */
  constructor(url, hear, lost) {
    this.url = url;
    this.#socket = new WebSocket(url.replace(/^http/, 'ws'));
    this.#open = new Promise((resolve, reject) => {
      this.#socket.onopen = resolve;
      const alive = setInterval(() => this.#send('eth_chainId', []), ALIVE);
      this.#socket.onclose = () => {
        clearInterval(alive);
        if (!this.ended) lost();
        this.ended = true;
        const gone = unreachable();
        reject(gone);
        for (const one of this.#waiting.values()) one.reject(gone);
        this.#waiting.clear();
      };
    });
    // Whoever waits for it is told.
    this.#open.catch(() => {});
    this.#socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.method === 'eth_subscription' && !this.ended) hear(message.params);
      const asked = this.#waiting.get(message.id);
      if (!asked) return;
      this.#waiting.delete(message.id);
      if (message.error) asked.reject(new RpcError(message.error.code, message.error.message, message.error.data));
      else asked.resolve(message.result);
    };
  }

  async ask(method, params) {
    if (this.#asked >= MAX_WAITING) throw new RpcError(-32005, 'too many calls wait for an answer');
    this.#asked += 1;
    try {
      await this.#open;
      if (this.ended) throw unreachable();
      const id = this.#send(method, params);
      return await new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    } finally {
      this.#asked -= 1;
    }
  }

  #send(method, params) {
    const id = (this.#next += 1);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    return id;
  }

  close() {
    this.ended = true;
    this.#socket.close();
  }
}
