"""Farms yield with the USDC of one account: reads rates, keeps the money where it earns most, claims rewards and puts them to
work. It knows an RPC URL and the addresses of the contracts; whose key signs, and where, is not its business.

    ETH_RPC_URL=… bot.py deployment.json farm             one round
    ETH_RPC_URL=… bot.py deployment.json exit PRINCIPAL   withdraws everything, and sends the profit to the reserve
    ETH_RPC_URL=… bot.py deployment.json attempt FILE     tries what somebody would try who has taken the bot over
"""

import json
import math
import os
import sys
import time

from web3 import Web3
from web3.exceptions import Web3RPCError

USDC = 10**6
AAVE = 10**18
LOT = 100_000 * USDC
YEAR = 365 * 86_400
MARGIN = 0.01  # how much better another market must be before money moves
LIMIT_EXCEEDED = -32005  # EIP-1474
STRANGER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


class Chain:
    """The account, the contracts, and sends that wait for their receipts."""

    def __init__(self, url, deployment):
        self.w3 = Web3(Web3.HTTPProvider(url))
        self.me = self.w3.eth.accounts[0]
        with open(deployment, encoding="utf-8") as file:
            known = json.load(file)
        self.contracts = {
            name: self.w3.eth.contract(Web3.to_checksum_address(of["address"]), abi=of["abi"]) for name, of in known.items()
        }

    def __getattr__(self, name):
        return self.contracts[name]

    def send(self, function):
        while True:
            try:
                sent = function.transact({"from": self.me})
                break
            except Web3RPCError as error:
                refusal = error.rpc_response["error"]
                if refusal["code"] != LIMIT_EXCEEDED:
                    raise
                time.sleep(refusal["data"].get("retry_after", 1))
        receipt = self.w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.05)
        if receipt["status"] != 1:
            raise RuntimeError(f"{function.fn_name} reverted: {sent.to_0x_hex()}")
        return receipt

    def balance(self, token):
        return token.functions.balanceOf(self.me).call()

    def approve(self, token, spender, amount):
        if token.functions.allowance(self.me, spender.address).call() < amount:
            self.send(token.functions.approve(spender.address, amount))

    def soon(self):
        return int(time.time()) + 300


class Lending:
    """Aave v3. A deposit is allowed by a permit, which is signed and costs no gas."""

    name = "aave"

    def __init__(self, chain):
        self.chain = chain

    def get_apy(self):
        rate = self.chain.aave_data.functions.getReserveData(self.chain.usdc.address).call()[5]
        return math.exp(rate / 1e27) - 1

    def holding(self):
        return self.chain.balance(self.chain.a_usdc)

    def deposit(self, amount):
        chain, deadline = self.chain, self.chain.soon()
        token, pool = chain.usdc, chain.aave_pool
        signature = chain.w3.eth.sign_typed_data(chain.me, permit(chain, token, pool.address, amount, deadline))
        r, s, v = signature[:32], signature[32:64], signature[64]
        chain.send(pool.functions.supplyWithPermit(token.address, amount, chain.me, 0, deadline, v, r, s))

    def withdraw(self):
        self.chain.send(self.chain.aave_pool.functions.withdraw(self.chain.usdc.address, 2**256 - 1, self.chain.me))


class Vault:
    """An ERC-4626 vault, whose rate is what its shares have gained in a day."""

    name = "vault"

    def __init__(self, chain):
        self.chain = chain

    def get_apy(self):
        latest = self.chain.w3.eth.get_block("latest")
        before = self.block_before(latest, latest["timestamp"] - 86_400)
        share = self.chain.vault.functions.convertToAssets(10**12)
        gained = share.call() / share.call(block_identifier=before["number"])
        return gained ** (YEAR / (latest["timestamp"] - before["timestamp"])) - 1

    def block_before(self, latest, timestamp):
        """The newest block that is not younger than that."""
        low, high = 0, latest["number"]
        while high - low > 1:
            middle = (low + high) // 2
            if self.chain.w3.eth.get_block(middle)["timestamp"] <= timestamp:
                low = middle
            else:
                high = middle
        return self.chain.w3.eth.get_block(low)

    def holding(self):
        return self.chain.vault.functions.convertToAssets(self.chain.balance(self.chain.vault)).call()

    def deposit(self, amount):
        self.chain.approve(self.chain.usdc, self.chain.vault, amount)
        self.chain.send(self.chain.vault.functions.deposit(amount, self.chain.me))

    def withdraw(self):
        shares = self.chain.balance(self.chain.vault)
        self.chain.send(self.chain.vault.functions.redeem(shares, self.chain.me, self.chain.me))


def permit(chain, token, spender, amount, deadline):
    """ERC-2612."""
    fields = {"owner": "address", "spender": "address", "value": "uint256", "nonce": "uint256", "deadline": "uint256"}
    domain = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
    as_types = lambda members: [{"name": name, "type": type_} for name, type_ in members.items()]
    return {
        "types": {"EIP712Domain": as_types(domain), "Permit": as_types(fields)},
        "primaryType": "Permit",
        "domain": {
            "name": token.functions.name().call(),
            "version": "1",
            "chainId": chain.w3.eth.chain_id,
            "verifyingContract": token.address,
        },
        "message": {
            "owner": chain.me,
            "spender": spender,
            "value": amount,
            "nonce": token.functions.nonces(chain.me).call(),
            "deadline": deadline,
        },
    }


class Bot:
    def __init__(self, chain):
        self.chain = chain
        self.markets = [Lending(chain), Vault(chain)]

    def farm(self):
        self.swap()
        self.claim()
        self.compound()
        self.optimize_yields()

    def swap(self):
        """A lot of USDT into USDC on Uniswap v3, for at most half a per cent less."""
        chain = self.chain
        if chain.balance(chain.usdt) < LOT:
            return
        quote = chain.quoter.functions.quoteExactInputSingle((chain.usdt.address, chain.usdc.address, LOT, 100, 0)).call()[0]
        floor = max(quote * 999 // 1000, LOT * 995 // 1000)
        chain.approve(chain.usdt, chain.uniswap, LOT)
        swap = (chain.usdt.address, chain.usdc.address, 100, chain.me, LOT, floor, 0)
        inner = chain.uniswap.encode_abi("exactInputSingle", args=[swap])
        multicall = chain.uniswap.get_function_by_signature("multicall(uint256,bytes[])")
        chain.send(multicall(chain.soon(), [inner]))
        say(f"swapped {LOT // USDC} USDT, of which {quote / USDC:.2f} USDC were expected")

    def claim(self):
        chain = self.chain
        earned = chain.aave_rewards.functions.getUserRewards([chain.a_usdc.address], chain.me, chain.aave.address).call()
        if earned >= AAVE // 10:
            chain.send(chain.aave_rewards.functions.claimAllRewardsToSelf([chain.a_usdc.address]))
            say(f"claimed {earned / AAVE:.2f} AAVE")

    def compound(self):
        """Sells a reward on Uniswap v2; what it brings is deposited with the rest."""
        chain = self.chain
        if chain.balance(chain.aave) < AAVE:
            return
        path = [chain.aave.address, chain.weth.address, chain.usdc.address]
        expected = chain.uniswap_v2.functions.getAmountsOut(AAVE, path).call()[-1]
        chain.approve(chain.aave, chain.uniswap_v2, AAVE)
        floor = expected * 99 // 100
        chain.send(chain.uniswap_v2.functions.swapExactTokensForTokens(AAVE, floor, path, chain.me, chain.soon()))
        say(f"sold 1 AAVE for {expected / USDC:.2f} USDC")

    def optimize_yields(self):
        """Moves what is in a worse market into the best one, and deposits another lot there."""
        rates = {market: market.get_apy() for market in self.markets}
        say(", ".join(f"{market.name} {rate:.2%}" for market, rate in rates.items()))
        best = max(rates, key=rates.get)
        for market in self.markets:
            if market is not best and market.holding() > 0 and rates[best] - rates[market] > MARGIN:
                moved = market.holding()
                market.withdraw()
                best.deposit(moved)
                say(f"moved {moved / USDC:.2f} USDC from {market.name} to {best.name}")
                return
        amount = min(self.chain.balance(self.chain.usdc), LOT)
        if amount > USDC:
            best.deposit(amount)
            say(f"deposited {amount / USDC:.2f} USDC into {best.name}")

    def exit(self, principal):
        chain = self.chain
        for market in self.markets:
            if market.holding() > 0:
                market.withdraw()
        profit = chain.balance(chain.usdc) + chain.balance(chain.usdt) - principal * USDC
        if profit > 0:
            chain.send(chain.usdc.functions.transfer(chain.reserve.address, profit))
        say(f"withdrew everything; {profit / USDC:.2f} USDC of profit to the reserve")


class Attempts:
    """What the policy must refuse, from a file that the other bot reads as well."""

    def __init__(self, chain):
        self.chain = chain

    def meant(self, value):
        """A value of the file with its names resolved, and calls inside it encoded."""
        if isinstance(value, dict) and "call" in value:
            return self.calldata(value)
        if isinstance(value, dict):
            return {key: self.meant(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.meant(item) for item in value]
        if not isinstance(value, str):
            return value
        if value in self.chain.contracts:
            return self.chain.contracts[value].address
        named = {"$treasury": self.chain.me, "$stranger": STRANGER, "$soon": self.chain.soon(), "$max": 2**256 - 1}
        return named.get(value, value)

    def calldata(self, attempt):
        contract = self.chain.contracts[attempt.get("abi", attempt["to"])]
        return contract.encode_abi(attempt["call"], args=self.meant(attempt["args"]))

    def ask(self, attempt):
        eth = self.chain.w3.eth
        if "typed_data" in attempt:
            return eth.sign_typed_data(self.chain.me, self.meant(attempt["typed_data"]))
        if "sign" in attempt:
            return eth.sign(self.chain.me, hexstr=attempt["sign"])
        transaction = {"from": self.chain.me, "to": self.meant(attempt["to"]), "value": int(attempt.get("value", 0)), "gas": 1_000_000}
        if "call" in attempt:
            transaction["data"] = self.calldata(attempt)
        return eth.send_transaction(transaction)

    def make(self, attempt):
        expected = attempt["refused"]
        for _ in range(attempt.get("at_most", 1)):
            try:
                self.ask(attempt)
            except Web3RPCError as error:
                refusal = error.rpc_response["error"]
                got = {"code": refusal["code"], "name": refusal["data"]["code"]}
                got |= {key: refusal["data"].get(key) for key in ("rule", "condition") if key in expected}
                if got != expected:
                    raise RuntimeError(f"{attempt['name']}: expected {expected}, got {got}: {refusal['message']}") from error
                return say(f"refused, as it must be: {attempt['name']}")
        raise RuntimeError(f"this went through: {attempt['name']}")


def say(text):
    print(f"web3.py: {text}", flush=True)


def main():
    deployment, verb, *rest = sys.argv[1:]
    chain = Chain(os.environ["ETH_RPC_URL"], deployment)
    if verb == "farm":
        Bot(chain).farm()
    elif verb == "exit":
        Bot(chain).exit(int(rest[0]))
    elif verb == "attempt":
        with open(rest[0], encoding="utf-8") as file:
            for attempt in json.load(file):
                Attempts(chain).make(attempt)
    else:
        sys.exit(__doc__)


main()
