// Asks the user, in a window of the extension’s own, one question after the other. No answer is a no; a question whose page is gone
// is none.

import { RpcError } from './gateway.js';

// Of one page’s origin, and of all together; what is asked beyond is refused at once.
const MAX_OF_ORIGIN = 8;
const MAX_WAITING = 32;

// Who is told no so often within that time is not to ask for as long again.
const MAX_REFUSED = 3;
const WITHIN = 60_000;

const waiting = [];
let shown;

/** When the user said no to an origin; and until when it is not to ask. */
const refusals = new Map();
const quiet = new Map();

/** Refuses an origin that may not ask now. To be called before a gateway is asked for what the question needs, too. */
export function mayAsk(origin) {
  if (Date.now() < (quiet.get(origin) ?? 0)) {
    throw new RpcError(-32005, 'the user has said no several times: ask again in a minute');
  }
  const same = waiting.filter((one) => one.question.origin === origin);
  if (same.length >= MAX_OF_ORIGIN || waiting.length >= MAX_WAITING) {
    throw new RpcError(-32005, 'the user has not answered what was asked before');
  }
}

/** Resolves with what the user has chosen; refuses with EIP-1193’s code when that is no. `gone` ends the question. */
export async function ask(question, gone) {
  if (gone.aborted) throw new RpcError(4001, 'the page is gone');
  mayAsk(question.origin);
  return new Promise((resolve, reject) => {
    const one = { id: crypto.randomUUID(), question, resolve, reject };
    one.forget = () => gone.removeEventListener('abort', leave);
    const leave = () => withdraw(one);
    gone.addEventListener('abort', leave);
    waiting.push(one);
    show();
  });
}

async function show() {
  const [first] = waiting;
  if (!first || shown) return;
  shown = first;
  const url = chrome.runtime.getURL(`confirm.html?${first.id}`);
  try {
    const { id } = await chrome.windows.create({ url, type: 'popup', width: 460, height: 640, focused: true });
    first.window = id;
    // It was withdrawn meanwhile.
    if (!waiting.includes(first)) close(first);
  } catch {
    end(first, undefined);
  }
}

// Also one that was closed before it could say what it is for.
chrome.windows.onRemoved.addListener((id) => {
  if (shown?.window === id) end(shown, undefined);
});

function withdraw(one) {
  if (!take(one)) return;
  close(one);
  one.reject(new RpcError(4001, 'the page is gone'));
}

function close(one) {
  if (one.window !== undefined) chrome.windows.remove(one.window).catch(() => {});
}

function end(one, answer) {
  if (!take(one)) return;
  if (answer !== undefined) return one.resolve(answer);
  note(one.question.origin);
  one.reject(new RpcError(4001, 'User rejected the request.'));
}

/** Takes a question out of the line, and shows the next; whether it was there. */
function take(one) {
  const place = waiting.indexOf(one);
  if (place < 0) return false;
  waiting.splice(place, 1);
  one.forget();
  if (shown === one) shown = undefined;
  // A page that is gone takes all of its questions along first.
  setTimeout(show);
  return true;
}

function note(origin) {
  const now = Date.now();
  const recent = [...(refusals.get(origin) ?? []).filter((at) => at > now - WITHIN), now];
  refusals.set(origin, recent);
  if (recent.length >= MAX_REFUSED) quiet.set(origin, now + WITHIN);
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
