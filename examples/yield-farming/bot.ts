/**
 * The twin of `bot.py`, with viem: farms yield with the USDC of one account. It knows an RPC URL and the addresses of the
 * contracts; whose key signs, and where, is not its business.
 *
 *     ETH_RPC_URL=… tsx bot.ts deployment.json farm             one round
 *     ETH_RPC_URL=… tsx bot.ts deployment.json exit PRINCIPAL   withdraws everything, and sends the profit to the reserve
 *     ETH_RPC_URL=… tsx bot.ts deployment.json attempt FILE     tries what somebody would try who has taken the bot over
 */
import { readFileSync } from 'node:fs';
import {
  type Abi, type AbiFunction, type AbiParameter, type Address, type Hex, BaseError, RpcRequestError, createPublicClient,
  createWalletClient, encodeAbiParameters, encodeFunctionData, http, maxUint256, parseSignature, toFunctionSelector,
  toFunctionSignature,
} from 'viem';
import { anvil } from 'viem/chains';

const USDC = 10n ** 6n;
const AAVE = 10n ** 18n;
const LOT = 100_000n * USDC;
const YEAR = 365n * 86_400n;
const MARGIN = 0.01; // how much better another market must be before money moves
const LIMIT_EXCEEDED = -32005; // EIP-1474
const STRANGER: Address = '0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC';

type Contract = { address: Address; abi: Abi };
type Refusal = { code: number; message: string; data?: { code?: string; rule?: string; condition?: string; retry_after?: number } };

const say = (text: string) => console.log(`viem: ${text}`);
const money = (amount: bigint) => (Number(amount) / Number(USDC)).toFixed(2);

/** What the RPC answered, out of whatever viem has wrapped around it. */
function refusalOf(error: unknown): Refusal {
  const cause = error instanceof BaseError ? error.walk((e) => e instanceof RpcRequestError) : null;
  if (!(cause instanceof RpcRequestError)) throw error;
  return { code: cause.code, data: cause.data as Refusal['data'], message: cause.details };
}

/** The account, the contracts, and sends that wait for their receipts. */
class Chain {
  readonly transport = http(process.env.ETH_RPC_URL);
  readonly reader = createPublicClient({ chain: anvil, transport: this.transport, pollingInterval: 50 });
  readonly wallet = createWalletClient({ chain: anvil, transport: this.transport });
  me!: Address;
  readonly contracts: Record<string, Contract>;

  constructor(deployment: string) {
    this.contracts = JSON.parse(readFileSync(deployment, 'utf8'));
  }

  async connect() {
    [this.me] = await this.wallet.getAddresses();
    return this;
  }

  read<T>({ address, abi }: Contract, functionName: string, args: unknown[] = [], blockNumber?: bigint) {
    return this.reader.readContract({ address, abi, functionName, args, blockNumber }) as Promise<T>;
  }

  async send({ address, abi }: Contract, functionName: string, args: unknown[]): Promise<void> {
    let hash: Hex;
    try {
      hash = await this.wallet.writeContract({ address, abi, functionName, args, account: this.me });
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal.code !== LIMIT_EXCEEDED) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (refusal.data?.retry_after ?? 1)));
      return this.send({ address, abi }, functionName, args);
    }
    const { status } = await this.reader.waitForTransactionReceipt({ hash });
    if (status !== 'success') throw new Error(`${functionName} reverted: ${hash}`);
  }

  balance(token: Contract) {
    return this.read<bigint>(token, 'balanceOf', [this.me]);
  }

  async approve(token: Contract, spender: Contract, amount: bigint) {
    if ((await this.read<bigint>(token, 'allowance', [this.me, spender.address])) < amount) {
      await this.send(token, 'approve', [spender.address, amount]);
    }
  }

  soon() {
    return BigInt(Math.floor(Date.now() / 1000) + 300);
  }
}

interface Market {
  name: string;
  getApy(): Promise<number>;
  holding(): Promise<bigint>;
  deposit(amount: bigint): Promise<void>;
  withdraw(): Promise<void>;
}

/** Aave v3. A deposit is allowed by a permit, which is signed and costs no gas. */
class Lending implements Market {
  readonly name = 'aave';
  constructor(private readonly chain: Chain) {}

  async getApy() {
    const { usdc, aave_data } = this.chain.contracts;
    const rate = (await this.chain.read<bigint[]>(aave_data, 'getReserveData', [usdc.address]))[5];
    return Math.exp(Number(rate) / 1e27) - 1;
  }

  holding() {
    return this.chain.balance(this.chain.contracts.a_usdc);
  }

  async deposit(amount: bigint) {
    const { me, contracts: { usdc, aave_pool } } = this.chain;
    const deadline = this.chain.soon();
    const { r, s, v } = parseSignature(await this.permit(usdc, aave_pool.address, amount, deadline));
    await this.chain.send(aave_pool, 'supplyWithPermit', [usdc.address, amount, me, 0, deadline, Number(v), r, s]);
  }

  async withdraw() {
    const { me, contracts: { usdc, aave_pool } } = this.chain;
    await this.chain.send(aave_pool, 'withdraw', [usdc.address, maxUint256, me]);
  }

  /** ERC-2612. */
  private async permit(token: Contract, spender: Address, value: bigint, deadline: bigint) {
    const { me, wallet } = this.chain;
    return wallet.signTypedData({
      account: me,
      domain: { name: await this.chain.read<string>(token, 'name'), version: '1', chainId: anvil.id, verifyingContract: token.address },
      types: {
        Permit: [
          { name: 'owner', type: 'address' }, { name: 'spender', type: 'address' }, { name: 'value', type: 'uint256' },
          { name: 'nonce', type: 'uint256' }, { name: 'deadline', type: 'uint256' },
        ],
      },
      primaryType: 'Permit',
      message: { owner: me, spender, value, nonce: await this.chain.read<bigint>(token, 'nonces', [me]), deadline },
    });
  }
}

/** An ERC-4626 vault, whose rate is what its shares have gained in a day. */
class Vault implements Market {
  readonly name = 'vault';
  constructor(private readonly chain: Chain) {}

  async getApy() {
    const latest = await this.chain.reader.getBlock();
    const before = await this.blockBefore(latest.number, latest.timestamp - 86_400n);
    const share = (blockNumber?: bigint) => this.chain.read<bigint>(this.chain.contracts.vault, 'convertToAssets', [10n ** 12n], blockNumber);
    const gained = Number(await share()) / Number(await share(before.number));
    return gained ** (Number(YEAR) / Number(latest.timestamp - before.timestamp)) - 1;
  }

  /** The newest block that is not younger than that. */
  private async blockBefore(latest: bigint, timestamp: bigint) {
    let [low, high] = [0n, latest];
    while (high - low > 1n) {
      const middle = (low + high) / 2n;
      if ((await this.chain.reader.getBlock({ blockNumber: middle })).timestamp <= timestamp) low = middle;
      else high = middle;
    }
    return this.chain.reader.getBlock({ blockNumber: low });
  }

  async holding() {
    const { vault } = this.chain.contracts;
    return this.chain.read<bigint>(vault, 'convertToAssets', [await this.chain.balance(vault)]);
  }

  async deposit(amount: bigint) {
    const { usdc, vault } = this.chain.contracts;
    await this.chain.approve(usdc, vault, amount);
    await this.chain.send(vault, 'deposit', [amount, this.chain.me]);
  }

  async withdraw() {
    const { me, contracts: { vault } } = this.chain;
    await this.chain.send(vault, 'redeem', [await this.chain.balance(vault), me, me]);
  }
}

class Bot {
  private readonly markets: Market[];
  constructor(private readonly chain: Chain) {
    this.markets = [new Lending(chain), new Vault(chain)];
  }

  async farm() {
    await this.swap();
    await this.claim();
    await this.compound();
    await this.optimizeYields();
  }

  /** A lot of USDT into USDC on Uniswap v3, for at most half a per cent less. */
  async swap() {
    const { me, reader, contracts: { usdt, usdc, uniswap, quoter } } = this.chain;
    if ((await this.chain.balance(usdt)) < LOT) return;
    const wanted = { tokenIn: usdt.address, tokenOut: usdc.address, amountIn: LOT, fee: 100, sqrtPriceLimitX96: 0n };
    const { result } = await reader.simulateContract({ ...quoter, functionName: 'quoteExactInputSingle', args: [wanted] });
    const quote = (result as bigint[])[0];
    const amountOutMinimum = [(quote * 999n) / 1000n, (LOT * 995n) / 1000n].reduce((a, b) => (a > b ? a : b));
    await this.chain.approve(usdt, uniswap, LOT);
    const inner = encodeFunctionData({ abi: uniswap.abi, functionName: 'exactInputSingle', args: [{ ...wanted, recipient: me, amountOutMinimum }] });
    await this.chain.send(uniswap, 'multicall', [this.chain.soon(), [inner]]);
    say(`swapped ${LOT / USDC} USDT, of which ${money(quote)} USDC were expected`);
  }

  async claim() {
    const { me, contracts: { a_usdc, aave, aave_rewards } } = this.chain;
    const earned = await this.chain.read<bigint>(aave_rewards, 'getUserRewards', [[a_usdc.address], me, aave.address]);
    if (earned < AAVE / 10n) return;
    await this.chain.send(aave_rewards, 'claimAllRewardsToSelf', [[a_usdc.address]]);
    say(`claimed ${(Number(earned) / Number(AAVE)).toFixed(2)} AAVE`);
  }

  /** Sells a reward on Uniswap v2; what it brings is deposited with the rest. */
  async compound() {
    const { me, contracts: { aave, weth, usdc, uniswap_v2 } } = this.chain;
    if ((await this.chain.balance(aave)) < AAVE) return;
    const path = [aave.address, weth.address, usdc.address];
    const expected = (await this.chain.read<bigint[]>(uniswap_v2, 'getAmountsOut', [AAVE, path]))[2];
    await this.chain.approve(aave, uniswap_v2, AAVE);
    await this.chain.send(uniswap_v2, 'swapExactTokensForTokens', [AAVE, (expected * 99n) / 100n, path, me, this.chain.soon()]);
    say(`sold 1 AAVE for ${money(expected)} USDC`);
  }

  /** Moves what is in a worse market into the best one, and deposits another lot there. */
  async optimizeYields() {
    const rates = await Promise.all(this.markets.map(async (market) => ({ market, rate: await market.getApy(), holding: await market.holding() })));
    say(rates.map(({ market, rate }) => `${market.name} ${(100 * rate).toFixed(2)}%`).join(', '));
    const best = rates.reduce((a, b) => (a.rate >= b.rate ? a : b));
    const worse = rates.find(({ rate, holding }) => holding > 0n && best.rate - rate > MARGIN);
    if (worse) {
      await worse.market.withdraw();
      await best.market.deposit(worse.holding);
      say(`moved ${money(worse.holding)} USDC from ${worse.market.name} to ${best.market.name}`);
      return;
    }
    const idle = await this.chain.balance(this.chain.contracts.usdc);
    const amount = idle < LOT ? idle : LOT;
    if (amount > USDC) {
      await best.market.deposit(amount);
      say(`deposited ${money(amount)} USDC into ${best.market.name}`);
    }
  }

  async exit(principal: bigint) {
    const { usdc, usdt, reserve } = this.chain.contracts;
    for (const market of this.markets) if ((await market.holding()) > 0n) await market.withdraw();
    const profit = (await this.chain.balance(usdc)) + (await this.chain.balance(usdt)) - principal * USDC;
    if (profit > 0n) await this.chain.send(usdc, 'transfer', [reserve.address, profit]);
    say(`withdrew everything; ${money(profit)} USDC of profit to the reserve`);
  }
}

type Call = { to: string; abi?: string; call: string; args: unknown[] };
type Attempt = Partial<Call> & { name: string; at_most?: number; value?: number; typed_data?: object; sign?: Hex; refused: Record<string, unknown> };

/** What the policy must refuse, from a file that the other bot reads as well. */
class Attempts {
  constructor(private readonly chain: Chain) {}

  /** A value of the file with its names resolved, and calls inside it encoded. */
  private meant(value: unknown): any {
    if (Array.isArray(value)) return value.map((item) => this.meant(item));
    if (value && typeof value === 'object') {
      if ('call' in value) return this.calldata(value as Call);
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.meant(item)]));
    }
    if (typeof value !== 'string') return value;
    const named: Record<string, unknown> = { $treasury: this.chain.me, $stranger: STRANGER, $soon: this.chain.soon(), $max: maxUint256 };
    return this.chain.contracts[value]?.address ?? named[value] ?? value;
  }

  private calldata({ to, abi, call, args }: Call): Hex {
    const functions = this.chain.contracts[abi ?? to].abi.filter((item): item is AbiFunction => item.type === 'function');
    const found = functions.find((item) => toFunctionSignature(item) === call);
    if (!found) throw new Error(`${to} has no ${call}`);
    return `${toFunctionSelector(found)}${encodeAbiParameters(found.inputs.map(nameless), this.meant(args)).slice(2)}` as Hex;
  }

  private async ask(attempt: Attempt) {
    const { wallet, me } = this.chain;
    if (attempt.typed_data) return wallet.signTypedData({ account: me, ...this.meant(attempt.typed_data) });
    if (attempt.sign) return wallet.request({ method: 'eth_sign' as any, params: [me, attempt.sign] as any });
    const data = attempt.call ? this.calldata(attempt as Call) : undefined;
    return wallet.sendTransaction({ account: me, to: this.meant(attempt.to), value: BigInt(attempt.value ?? 0), data, gas: 1_000_000n });
  }

  async make(attempt: Attempt) {
    for (let tries = attempt.at_most ?? 1; tries > 0; tries -= 1) {
      try {
        await this.ask(attempt);
      } catch (error) {
        const { code, data, message } = refusalOf(error);
        const got: Record<string, unknown> = { code, name: data?.code, rule: data?.rule, condition: data?.condition };
        const wrong = Object.entries(attempt.refused).filter(([key, expected]) => got[key] !== expected);
        if (wrong.length > 0) throw new Error(`${attempt.name}: expected ${JSON.stringify(attempt.refused)}, got ${JSON.stringify(got)}: ${message}`);
        return say(`refused, as it must be: ${attempt.name}`);
      }
    }
    throw new Error(`this went through: ${attempt.name}`);
  }
}

/** Tuples of a parameter without names may be given as arrays. */
function nameless({ name: _, ...parameter }: AbiParameter): AbiParameter {
  return 'components' in parameter ? { ...parameter, components: parameter.components.map(nameless) } : parameter;
}

async function main() {
  const [deployment, verb, rest] = process.argv.slice(2);
  const chain = await new Chain(deployment).connect();
  if (verb === 'farm') await new Bot(chain).farm();
  else if (verb === 'exit') await new Bot(chain).exit(BigInt(rest));
  else if (verb === 'attempt') {
    for (const attempt of JSON.parse(readFileSync(rest, 'utf8')) as Attempt[]) await new Attempts(chain).make(attempt);
  } else throw new Error(`no such verb: ${verb}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
