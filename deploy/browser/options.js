// Gateways and choices, and which page may use which accounts. What an administrator has set cannot be changed here.

import { accountsAt, chains } from './gateway.js';
import { change, changeSite, settings, sites, wrongUrl } from './settings.js';

const at = (id) => document.getElementById(id);
const make = (tag, values, ...inside) => {
  const made = Object.assign(document.createElement(tag), values);
  made.append(...inside);
  return made;
};

async function show() {
  const now = await settings();
  const fixed = now.fixed.includes('gateways');
  at('gateways').replaceChildren(
    ...now.gateways.map((gateway, place) => {
      const remove = make('button', { textContent: 'Remove', type: 'button', disabled: fixed });
      remove.onclick = () => change({ gateways: now.gateways.toSpliced(place, 1) });
      return make('li', {}, `${gateway.name}: ${shown(gateway.url)} `, remove);
    }),
  );
  at('add').hidden = fixed;
  for (const name of ['announceAsMetaMask', 'windowEthereum']) {
    at(name).checked = now[name];
    at(name).disabled = now.fixed.includes(name);
  }
  at('origin').textContent = `chrome-extension://${chrome.runtime.id}`;
  // What was given can be taken away without the gateway, which may be long in saying what else there is.
  const all = await Promise.race([accounts(), new Promise((resolve) => setTimeout(resolve, 2000, []))]);
  at('sites').replaceChildren(...Object.entries(await sites()).map(([origin, known]) => page(origin, known, all)));
}

/** Without a connector’s token, which somebody behind you could read. */
function shown(url) {
  const wrong = wrongUrl(url);
  if (wrong) return `${url} (not used: ${wrong})`;
  const { protocol, host, pathname } = new URL(url);
  return protocol === 'http:' ? `${protocol}//${host}/…` : `${protocol}//${host}${pathname}`;
}

async function accounts() {
  try {
    const [first] = await chains();
    return await accountsAt(first.url);
  } catch {
    return [];
  }
}

function page(origin, known, all) {
  const forget = make('button', { textContent: 'Forget', type: 'button', className: 'forget' });
  forget.onclick = () => changeSite(origin, () => undefined);
  // What was forgotten meanwhile stays so.
  const use = (accounts) => changeSite(origin, (now) => now && { ...now, accounts: accounts(now.accounts) });
  const rows = [...new Set([...known.accounts, ...all])].map((account) => {
    const may = make('input', { type: 'checkbox', value: account, checked: known.accounts.includes(account) });
    may.onchange = () => {
      const { checked } = may;
      use((now) => [...now.filter((one) => one !== account), ...(checked ? [account] : [])]);
    };
    const first = make('button', { textContent: 'Use', type: 'button', disabled: known.accounts[0] === account });
    first.onclick = () => use((now) => [account, ...now.filter((one) => one !== account)]);
    return make('label', {}, may, account, ' ', first);
  });
  const fieldset = make('fieldset', {}, make('legend', { textContent: origin }), ...rows, forget);
  fieldset.dataset.origin = origin;
  return fieldset;
}

at('add').onsubmit = async (event) => {
  event.preventDefault();
  const { name, url } = Object.fromEntries(new FormData(at('add')));
  const wrong = wrongUrl(url);
  at('wrong').textContent = wrong ?? '';
  if (wrong) return;
  const { gateways } = await settings();
  await change({ gateways: [...gateways, { name, url }] });
  at('add').reset();
};
for (const name of ['announceAsMetaMask', 'windowEthereum']) {
  at(name).onchange = () => change({ [name]: at(name).checked });
}
chrome.storage.onChanged.addListener(show);
show();
