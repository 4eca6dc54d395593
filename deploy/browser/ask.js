// Asks the user, in a window of the extension’s own, one question after the other. No answer is a no.

import { RpcError } from './gateway.js';

// Of one page; what it asks beyond is refused at once.
const MAX_WAITING = 8;

const waiting = [];
let shown;

/** Resolves with what the user has chosen; refuses with EIP-1193’s code when that is no. */
export function ask(question) {
  const same = waiting.filter((one) => one.question.origin === question.origin);
  if (question.kind === 'connect' && same.some((one) => one.question.kind === 'connect')) {
    return Promise.reject(new RpcError(-32002, 'the user is being asked already'));
  }
  if (same.length >= MAX_WAITING) {
    return Promise.reject(new RpcError(-32005, 'the user has not answered what this page asked before'));
  }
  return new Promise((resolve, reject) => {
    waiting.push({ id: crypto.randomUUID(), question, resolve, reject });
    show();
  });
}

async function show() {
  const [first] = waiting;
  if (!first || shown) return;
  shown = first;
  const url = chrome.runtime.getURL(`confirm.html?${first.id}`);
  try {
    await chrome.windows.create({ url, type: 'popup', width: 460, height: 640, focused: true });
  } catch {
    end(first, undefined);
  }
}

function end(one, answer) {
  const place = waiting.indexOf(one);
  if (place < 0) return;
  waiting.splice(place, 1);
  shown = undefined;
  if (answer === undefined) one.reject(new RpcError(4001, 'User rejected the request.'));
  else one.resolve(answer);
  show();
}

/** The window’s connection: it asks what it is for, and says what was decided. Its messages keep this worker alive. */
export function attend(port) {
  let mine;
  port.onMessage.addListener((message) => {
    if (message.id && shown?.id === message.id) {
      mine = shown;
      port.postMessage(mine.question);
    } else if (message.answer && mine) {
      end(mine, message.answer);
    } else if (message.refused && mine) {
      end(mine, undefined);
    }
  });
  port.onDisconnect.addListener(() => mine && end(mine, undefined));
}
