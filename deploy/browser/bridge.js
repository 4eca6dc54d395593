// Between a page and the extension: hands on what each says, and nothing else. What is not of this page's own window is
// not looked at. It runs in top frames only, so that what a page embeds cannot ask in its name.
(() => {
  'use strict';

  const CHANNEL = 'chancery-wallet';
  // The gateway takes no larger request.
  const MAX_TEXT = 2 * 1024 * 1024;
  const asked = new Set();
  let port;
  let listens = false;

  const toPage = (message) => window.postMessage({ channel: CHANNEL, to: 'page', ...message }, window.origin);
  const refuse = (id, code, message) => toPage({ id, error: { code, message } });

  function connect() {
    port = chrome.runtime.connect({ name: 'page' });
    port.onMessage.addListener((message) => {
      asked.delete(message.id);
      toPage(message);
    });
    // The browser ends an extension's worker when it likes.
    port.onDisconnect.addListener(() => {
      const listened = listens;
      drop();
      // Its subscriptions are gone, and it is to know.
      if (listened) resume();
    });
  }

  /** There is no connection any more, and what became of what was asked on it is not known. */
  function drop() {
    port = undefined;
    for (const id of asked) {
      refuse(id, -32603, 'the extension was stopped before there was an answer: look at the account before you ask again');
    }
    asked.clear();
    if (listens) toPage({ state: { connected: false } });
    listens = false;
  }

  window.addEventListener('message', (event) => {
    const message = event.data;
    if (event.source !== window || message?.channel !== CHANNEL || message.to !== 'extension') return;
    const { id, text } = message;
    if (typeof id !== 'number' || typeof text !== 'string') return;
    if (text.length > MAX_TEXT) {
      refuse(id, -32600, 'the request is too large');
      return;
    }
    if (!isSeen()) {
      refuse(id, 4100, 'this page is not shown yet');
      return;
    }
    try {
      if (!port) connect();
      asked.add(id);
      listens ||= text.includes('eth_subscribe');
      port.postMessage({ id, text });
    } catch {
      asked.delete(id);
      refuse(id, 4900, 'the extension was replaced: load this page anew');
    }
  });

  // A page that nobody sees yet, and may never, is nobody.
  function isSeen() {
    return !document.prerendering;
  }
  function resume() {
    if (!port && isSeen()) connect();
  }
  // Something was changed elsewhere, or the page was put away and taken out again: connecting tells what is so now.
  chrome.runtime.onMessage.addListener(resume);
  window.addEventListener('pageshow', resume);
  window.addEventListener('pagehide', ({ persisted }) => {
    if (!persisted) return;
    port?.disconnect();
    drop();
  });
  document.addEventListener('prerenderingchange', resume);
  resume();
})();
