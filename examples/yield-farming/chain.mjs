// A small layer over viem, for the scripts that set the scene: artifacts, linking, and sends that wait for their receipts.
import { readFileSync } from 'node:fs';
import { createPublicClient, createWalletClient, http } from 'viem';
import { anvil } from 'viem/chains';

export const url = process.env.ETH_RPC_URL;
const transport = http(url);
export const reader = createPublicClient({ chain: anvil, transport, pollingInterval: 50 });
export const [account] = await createWalletClient({ chain: anvil, transport }).getAddresses();
const wallet = createWalletClient({ chain: anvil, transport, account });

/** What was published: `{ abi, bytecode, linkReferences }`, by its path in node_modules. */
export function artifact(path) {
  const { abi, bytecode, linkReferences, evm } = JSON.parse(readFileSync(new URL(`node_modules/${path}`, import.meta.url)));
  const code = typeof bytecode === 'string' ? bytecode : evm.bytecode.object;
  return { abi, bytecode: code.startsWith('0x') ? code : `0x${code}`, linkReferences: linkReferences ?? {} };
}

async function mined(hash, what) {
  const receipt = await reader.waitForTransactionReceipt({ hash });
  if (receipt.status !== 'success') throw new Error(`${what} reverted: ${hash}`);
  return receipt;
}

/** Creates a contract, after the libraries that it is linked to; each library once. `libraries` is where those come from. */
export async function create(contract, args = [], libraries = undefined) {
  let { bytecode } = contract;
  for (const [source, names] of Object.entries(contract.linkReferences ?? {})) {
    for (const [name, places] of Object.entries(names)) {
      const { address } = await library(`${libraries}/${source}/${name}.json`, libraries);
      for (const { start, length } of places) {
        const [from, to] = [2 + 2 * start, 2 + 2 * (start + length)];
        bytecode = (bytecode.slice(0, from) + address.slice(2) + bytecode.slice(to)).toLowerCase();
      }
    }
  }
  const receipt = await mined(await wallet.deployContract({ abi: contract.abi, bytecode, args }), 'a creation');
  return { address: receipt.contractAddress, abi: contract.abi };
}

const created = new Map();
function library(path, libraries) {
  if (!created.has(path)) created.set(path, create(artifact(path), [], libraries));
  return created.get(path);
}

export const at = (address, { abi }) => ({ address, abi });

export const call = ({ address, abi }, functionName, ...args) => reader.readContract({ address, abi, functionName, args });

export const send = async ({ address, abi }, functionName, args = [], value = 0n) =>
  mined(await wallet.writeContract({ address, abi, functionName, args, value }), functionName);

export const units = (amount, decimals) => BigInt(amount) * 10n ** BigInt(decimals);
