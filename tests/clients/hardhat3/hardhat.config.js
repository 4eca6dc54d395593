// Hardhat 3 with the plugins of the test, and a network that is a gateway's.
import ethers from '@nomicfoundation/hardhat-ethers';
import ignition from '@nomicfoundation/hardhat-ignition-viem';
import viem from '@nomicfoundation/hardhat-viem';
import { fileURLToPath } from 'node:url';

export default {
  plugins: [ethers, viem, ignition],
  solidity: { version: '0.8.37', path: fileURLToPath(import.meta.resolve('solc/soljson.js')) },
  // The chain of the test makes a block for each transaction, and no more.
  ignition: { requiredConfirmations: 1 },
  networks: { chancery: { type: 'http', chainType: 'l1', url: process.env.URL ?? 'http://127.0.0.1:1', accounts: 'remote' } },
};
