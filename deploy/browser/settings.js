// What is kept: gateways and choices, which an administrator's policy may set, and what each page may use, which the user
// decides.

const MANAGED = ['gateways', 'announceAsMetaMask', 'windowEthereum'];
const DEFAULTS = { gateways: [], announceAsMetaMask: false, windowEthereum: false };

// URLs of connectors hold a token: no page's process is to read them.
chrome.storage.local.setAccessLevel?.({ accessLevel: 'TRUSTED_CONTEXTS' })?.catch(() => {});

/** The settings in force, and which of them the user cannot change. */
export async function settings() {
  const managed = await chrome.storage.managed.get(MANAGED).catch(() => ({}));
  const own = await chrome.storage.local.get(MANAGED);
  const fixed = MANAGED.filter((name) => managed[name] !== undefined);
  return { ...DEFAULTS, ...own, ...managed, fixed };
}

export async function change(values) {
  const { fixed } = await settings();
  const free = Object.entries(values).filter(([name]) => MANAGED.includes(name) && !fixed.includes(name));
  await chrome.storage.local.set(Object.fromEntries(free));
}

/** What is wrong with the URL of a gateway; nothing if it is a good one. */
export function wrongUrl(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return 'this is no URL';
  }
  const local = url.protocol === 'http:' && url.hostname === '127.0.0.1';
  if (url.protocol !== 'https:' && !local) return 'a gateway is at https://…, a connector at http://127.0.0.1:PORT/TOKEN';
  if (url.username || url.password || url.search || url.hash) return 'a gateway’s URL has a path at most';
  return undefined;
}

/**
 * What each page may use, by its origin: `{ accounts, chainId, chains }`, the first account being the one that is used, and the chains
 * those that the user has let it go to.
 */
export async function sites() {
  return (await chrome.storage.local.get('sites')).sites ?? {};
}

export async function site(origin) {
  return (await sites())[origin];
}

/**
 * Changes what is known of a page: `change` gets what that is now, or nothing, and gives what it is to be; nothing forgets it. One
 * change after the other, of this extension’s worker and pages together: two at once would lose one, which may be a “Forget”.
 */
export function changeSite(origin, change) {
  return navigator.locks.request('sites', async () => {
    const all = await sites();
    const now = change(all[origin]);
    if (now === undefined) delete all[origin];
    else all[origin] = now;
    await chrome.storage.local.set({ sites: all });
  });
}
