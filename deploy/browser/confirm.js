// One question to the user: may this page use these accounts, or shall this be signed. Everything is shown as text.

import { described, details, plain } from './describe.js';

const port = chrome.runtime.connect({ name: 'confirm' });
const at = (id) => document.getElementById(id);

port.onMessage.addListener((question) => {
  at('origin').textContent = plain(question.origin);
  if (question.kind === 'connect') {
    at('title').textContent = 'May this page use your accounts?';
    at('note').textContent = 'It sees the accounts that you choose and their balances, and can ask for signatures.';
    at('accounts').hidden = false;
    at('accounts').append(...question.accounts.map((account, place) => choice(account, place === 0)));
    facts({ Chain: question.chain });
    accept = () => {
      const chosen = [...at('accounts').querySelectorAll('input:checked')].map((input) => input.value);
      if (chosen.length > 0) answer({ accounts: chosen });
    };
  } else if (question.kind === 'chain') {
    at('title').textContent = 'May this page go to another chain?';
    facts({ Chain: question.chain });
    at('note').textContent = 'What it asks you to sign from now on is for that chain.';
    accept = () => answer({ changed: true });
  } else {
    at('title').textContent = 'Shall this be signed?';
    facts({ Account: question.account, Chain: question.chain, ...described(question) });
    at('details').hidden = false;
    at('details').textContent = plain(JSON.stringify(details(question), undefined, 2));
    at('note').textContent = 'The gateway’s policy decides in any case.';
    accept = () => answer({ signed: true });
  }
  arm();
});

// What a yes means; nothing before there is a question.
let accept;
let armed;

/**
 * A click that was meant for what lay here before is not an answer: the window must have lain in front, and as it is, for half a
 * second. Nor is the second click of a double one, whose first was for another window, or one that a script makes.
 */
function arm() {
  at('accept').disabled = true;
  clearTimeout(armed);
  if (!accept || !document.hasFocus() || document.visibilityState !== 'visible') return;
  armed = setTimeout(() => (at('accept').disabled = false), 500);
}

for (const event of ['focus', 'blur', 'resize']) window.addEventListener(event, arm);
document.addEventListener('visibilitychange', arm);
at('accept').onclick = ({ isTrusted, detail }) => {
  if (isTrusted && detail <= 1) accept();
};

function answer(given) {
  port.postMessage({ answer: given });
  window.close();
}

function choice(account, checked) {
  const label = document.createElement('label');
  const input = Object.assign(document.createElement('input'), { type: 'checkbox', value: account, checked });
  label.append(input, account);
  return label;
}

function facts(all) {
  const element = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
  at('facts').append(...Object.entries(all).flatMap(([name, value]) => [element('dt', name), element('dd', plain(value))]));
}

at('refuse').onclick = () => {
  port.postMessage({ refused: true });
  window.close();
};
port.postMessage({ id: location.search.slice(1) });
// Nobody hears the answer any more.
port.onDisconnect.addListener(() => window.close());
// The browser stops a worker that hears nothing for half a minute, and with it the question.
setInterval(() => port.postMessage({ alive: true }), 20_000);
