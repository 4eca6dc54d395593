// Compiles what nobody publishes, our own two contracts, with npm's solc.
import { readFileSync } from 'node:fs';
import solc from 'solc';

const read = (path) => ({ contents: readFileSync(new URL(path, import.meta.url), 'utf8') });
const found = (path) => {
  try {
    return read(`node_modules/${path}`);
  } catch (error) {
    return { error: error.message };
  }
};

/** The contracts of these files of `contracts/`, by name: `{ abi, bytecode }`. */
export default function compile(...files) {
  const input = {
    language: 'Solidity',
    sources: Object.fromEntries(files.map((file) => [file, { content: read(`contracts/${file}`).contents }])),
    settings: { optimizer: { enabled: true }, outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } } },
  };
  const { errors = [], contracts } = JSON.parse(solc.compile(JSON.stringify(input), { import: found }));
  const fatal = errors.filter(({ severity }) => severity === 'error');
  if (fatal.length > 0) throw new Error(fatal.map(({ formattedMessage }) => formattedMessage).join('\n'));
  const ofThese = files.flatMap((file) => Object.entries(contracts[file]));
  return Object.fromEntries(ofThese.map(([name, { abi, evm }]) => [name, { abi, bytecode: `0x${evm.bytecode.object}` }]));
}
