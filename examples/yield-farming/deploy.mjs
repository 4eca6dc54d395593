// Deploys a small DeFi through whatever RPC URL it is given, from what its makers published: WETH, Uniswap v2 and v3, Aave v3
// with rewards, a Safe, Multicall3, Permit2, an ERC-4626 vault. Every transaction is an `eth_sendTransaction` of the URL's first
// account. Writes addresses and ABIs of what the robots use to the file that it is given.
//
//   ETH_RPC_URL=… TREASURY=0x… node deploy.mjs deployment.json
import { readFileSync, writeFileSync } from 'node:fs';
import { encodeFunctionData, getAddress, multicall3Abi, zeroAddress } from 'viem';
import { multicall3Bytecode } from './node_modules/viem/_esm/constants/contracts.js';
import { account, artifact, at, call, create, reader, send, units } from './chain.mjs';
import compile from './compile.mjs';

const treasury = process.env.TREASURY;
const AAVE = '@aave/core-v3/artifacts';
const published = {
  aave: (path) => artifact(`${AAVE}/contracts/${path}.json`),
  rewards: (path) => artifact(`@aave/periphery-v3/artifacts/contracts/rewards/${path}.json`),
  v2: (part, name) => artifact(`@uniswap/v2-${part}/build/${name}.json`),
  v3: (part, path) => artifact(`@uniswap/v3-${part}/artifacts/contracts/${path}.json`),
  safe: (path) => artifact(`@safe-global/safe-contracts/build/artifacts/contracts/${path}.json`),
};
const now = async () => (await reader.getBlock()).timestamp;
const inAnHour = async () => (await now()) + 3600n;

const { Token, Vault } = compile('Token.sol', 'Vault.sol');

async function tokens() {
  const token = (name, symbol, decimals, supply) => create(Token, [name, symbol, decimals, units(supply, decimals)]);
  const weth = await create(artifact('canonical-weth/build/contracts/WETH9.json'));
  await send(weth, 'deposit', [], units(900, 18));
  return {
    weth,
    usdc: await token('USD Coin', 'USDC', 6, 20_000_000),
    usdt: await token('Tether USD', 'USDT', 6, 20_000_000),
    aave: await token('Aave Token', 'AAVE', 18, 100_000),
  };
}

// AAVE is worth 150 USDC, by way of ether at 2,500.
async function uniswapV2({ weth, usdc, aave }) {
  const factory = await create(published.v2('core', 'UniswapV2Factory'), [account]);
  const router = await create(published.v2('periphery', 'UniswapV2Router02'), [factory.address, weth.address]);
  const pairs = [
    [aave, units(5_000, 18), weth, units(300, 18)],
    [weth, units(100, 18), usdc, units(250_000, 6)],
  ];
  for (const [a, amountA, b, amountB] of pairs) {
    await send(a, 'approve', [router.address, amountA]);
    await send(b, 'approve', [router.address, amountB]);
    const both = [amountA, amountB];
    await send(router, 'addLiquidity', [a.address, b.address, ...both, ...both, account, await inAnHour()]);
  }
  return { factory, router };
}

// A pool of two stablecoins at one to one, as on mainnet with the fee of a hundredth of a per cent.
async function uniswapV3({ weth, usdc, usdt }, v2) {
  const factory = await create(published.v3('core', 'UniswapV3Factory.sol/UniswapV3Factory'));
  await send(factory, 'enableFeeAmount', [100, 1]);
  const positions = await create(
    published.v3('periphery', 'NonfungiblePositionManager.sol/NonfungiblePositionManager'),
    [factory.address, weth.address, zeroAddress],
  );
  const router = await create(artifact('@uniswap/swap-router-contracts/artifacts/contracts/SwapRouter02.sol/SwapRouter02.json'), [
    v2.factory.address, factory.address, positions.address, weth.address,
  ]);
  const quoter = await create(published.v3('periphery', 'lens/QuoterV2.sol/QuoterV2'), [factory.address, weth.address]);
  const [token0, token1] = [usdc.address, usdt.address].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
  await send(positions, 'createAndInitializePoolIfNecessary', [token0, token1, 100, 2n ** 96n]);
  const amount = units(5_000_000, 6);
  for (const token of [usdc, usdt]) await send(token, 'approve', [positions.address, amount]);
  await send(positions, 'mint', [{
    token0, token1, fee: 100, tickLower: -50, tickUpper: 50, amount0Desired: amount, amount1Desired: amount, amount0Min: 0n,
    amount1Min: 0n, recipient: account, deadline: await inAnHour(),
  }]);
  return { router, quoter };
}

async function aaveV3({ usdc, weth, aave }) {
  const linked = (path, args) => create(published.aave(path), args, AAVE);
  const provider = await create(published.aave('protocol/configuration/PoolAddressesProvider.sol/PoolAddressesProvider'), ['Chancery', account]);
  await send(provider, 'setACLAdmin', [account]);
  const roles = await create(published.aave('protocol/configuration/ACLManager.sol/ACLManager'), [provider.address]);
  await send(provider, 'setACLManager', [roles.address]);
  await send(roles, 'addPoolAdmin', [account]);

  const price = async (dollars) => (await create(published.aave('mocks/oracle/CLAggregators/MockAggregator.sol/MockAggregator'), [units(dollars, 8)])).address;
  const prices = [await price(1), await price(2_500), await price(150)];
  const oracle = await create(published.aave('misc/AaveOracle.sol/AaveOracle'), [
    provider.address, [usdc.address, weth.address, aave.address], prices, zeroAddress, zeroAddress, units(1, 8),
  ]);
  await send(provider, 'setPriceOracle', [oracle.address]);

  const poolCode = published.aave('protocol/pool/Pool.sol/Pool');
  await send(provider, 'setPoolImpl', [(await linked('protocol/pool/Pool.sol/Pool', [provider.address])).address]);
  const pool = at(await call(provider, 'getPool'), poolCode);
  const configuratorCode = published.aave('protocol/pool/PoolConfigurator.sol/PoolConfigurator');
  await send(provider, 'setPoolConfiguratorImpl', [(await linked('protocol/pool/PoolConfigurator.sol/PoolConfigurator', [])).address]);
  const configurator = at(await call(provider, 'getPoolConfigurator'), configuratorCode);
  const data = await create(published.aave('misc/AaveProtocolDataProvider.sol/AaveProtocolDataProvider'), [provider.address]);
  await send(provider, 'setPoolDataProvider', [data.address]);

  // Rewards come before the reserves, whose tokens are told of them.
  const emissions = await create(published.rewards('EmissionManager.sol/EmissionManager'), [zeroAddress, account]);
  const rewards = await create(published.rewards('RewardsController.sol/RewardsController'));
  await send(rewards, 'initialize', [emissions.address]);
  await send(emissions, 'setRewardsController', [rewards.address]);

  const tokenization = (name) => create(published.aave(`protocol/tokenization/${name}.sol/${name}`), [pool.address]);
  const [aToken, stableDebt, variableDebt] = [await tokenization('AToken'), await tokenization('StableDebtToken'), await tokenization('VariableDebtToken')];
  const ray = (perMille) => BigInt(perMille) * 10n ** 24n;
  const rates = await create(
    published.aave('protocol/pool/DefaultReserveInterestRateStrategy.sol/DefaultReserveInterestRateStrategy'),
    [provider.address, ray(900), 0n, ray(65), ray(600), ray(5), ray(600), ray(10), ray(80), ray(200)],
  );
  const reserve = (token, symbol, decimals) => ({
    aTokenImpl: aToken.address, stableDebtTokenImpl: stableDebt.address, variableDebtTokenImpl: variableDebt.address,
    underlyingAssetDecimals: decimals, interestRateStrategyAddress: rates.address, underlyingAsset: token.address,
    treasury: account, incentivesController: rewards.address,
    aTokenName: `Aave ${symbol}`, aTokenSymbol: `a${symbol}`, variableDebtTokenName: `Aave Variable Debt ${symbol}`,
    variableDebtTokenSymbol: `variableDebt${symbol}`, stableDebtTokenName: `Aave Stable Debt ${symbol}`,
    stableDebtTokenSymbol: `stableDebt${symbol}`, params: '0x',
  });
  await send(configurator, 'initReserves', [[reserve(usdc, 'USDC', 6), reserve(weth, 'WETH', 18)]]);
  await send(configurator, 'setReserveBorrowing', [usdc.address, true]);
  await send(configurator, 'setReserveFactor', [usdc.address, 1_000n]);
  await send(configurator, 'configureReserveAsCollateral', [weth.address, 8_000n, 8_250n, 10_500n]);

  // Twelve AAVE a day for those who supply USDC, out of the deployer's pocket.
  const strategy = await create(published.rewards('transfer-strategies/PullRewardsTransferStrategy.sol/PullRewardsTransferStrategy'), [
    rewards.address, account, account,
  ]);
  await send(aave, 'approve', [strategy.address, units(50_000, 18)]);
  await send(emissions, 'setEmissionAdmin', [aave.address, account]);
  const [aUsdc] = await call(data, 'getReserveTokensAddresses', usdc.address);
  await send(emissions, 'configureAssets', [[{
    emissionPerSecond: units(12, 18) / 86_400n, totalSupply: 0n, distributionEnd: Number(await now()) + 365 * 86_400, asset: aUsdc,
    reward: aave.address, transferStrategy: strategy.address, rewardOracle: prices[2],
  }]]);

  // Somebody supplies, and somebody borrows: both are the deployer.
  await send(usdc, 'approve', [pool.address, units(500_000, 6)]);
  await send(pool, 'supply', [usdc.address, units(500_000, 6), account, 0]);
  await send(weth, 'approve', [pool.address, units(400, 18)]);
  await send(pool, 'supply', [weth.address, units(400, 18), account, 0]);
  await send(pool, 'setUserUseReserveAsCollateral', [weth.address, true]);
  await send(pool, 'borrow', [usdc.address, units(400_000, 6), 2n, 0, account]);
  return { pool, data, rewards, aUsdc: at(aUsdc, aToken) };
}

// A Safe with one owner, by its factory.
async function safe(owner) {
  const singleton = await create(published.safe('Safe.sol/Safe'));
  const factory = await create(published.safe('proxies/SafeProxyFactory.sol/SafeProxyFactory'));
  const setup = encodeFunctionData({
    abi: singleton.abi, functionName: 'setup',
    args: [[owner], 1n, zeroAddress, '0x', zeroAddress, zeroAddress, 0n, zeroAddress],
  });
  const { logs } = await send(factory, 'createProxyWithNonce', [singleton.address, setup, 0n]);
  const made = logs.find(({ address }) => address === factory.address.toLowerCase());
  return at(`0x${made.topics[1].slice(26)}`, singleton);
}

// Published as the code that stands at its address on every chain: created by ten bytes that return what follows them.
function permit2Published() {
  const script = readFileSync(new URL('node_modules/@uniswap/v4-periphery/lib/permit2/test/utils/DeployPermit2.sol', import.meta.url), 'utf8');
  const [, code] = /hex"([0-9a-f]+)"/.exec(script);
  return { abi: [], bytecode: `0x61${(code.length / 2).toString(16).padStart(4, '0')}80600a3d393df3${code}` };
}

const t = await tokens();
const v2 = await uniswapV2(t);
const v3 = await uniswapV3(t, v2);
const lending = await aaveV3(t);
const reserve = await safe(treasury);
const vault = await create(Vault, [t.usdc.address]);
await send(t.usdc, 'approve', [vault.address, units(500_000, 6)]);
await send(vault, 'deposit', [units(500_000, 6), account]);
const permit2 = await create(permit2Published());
const multicall3 = await create({ abi: multicall3Abi, bytecode: multicall3Bytecode });

// What the treasury begins with.
await send(t.usdc, 'transfer', [treasury, units(250_000, 6)]);
await send(t.usdt, 'transfer', [treasury, units(200_000, 6)]);

const deployment = {
  ...t, uniswap: v3.router, quoter: v3.quoter, uniswap_v2: v2.router, aave_pool: lending.pool, aave_data: lending.data,
  aave_rewards: lending.rewards, a_usdc: lending.aUsdc, vault, reserve, multicall3, permit2,
};
const checksummed = ([name, { address, abi }]) => [name, { address: getAddress(address), abi }];
writeFileSync(process.argv[2], JSON.stringify(Object.fromEntries(Object.entries(deployment).map(checksummed))));
const count = await reader.getTransactionCount({ address: account });
console.log(`deployed by ${count} transactions of ${account}`);
