"""Writes down, twice a second, where the treasury's money is and what the budgets have left, until it is stopped.

    watch.py NODE TREASURY deployment.json history.jsonl COMMAND…   (the command that prints budgets, one JSON object a line)
"""

import json
import subprocess
import sys
import time

from web3 import Web3

node, treasury, deployment, history, *limits = sys.argv[1:]
w3 = Web3(Web3.HTTPProvider(node))
treasury = Web3.to_checksum_address(treasury)
with open(deployment, encoding="utf-8") as file:
    contracts = {name: w3.eth.contract(of["address"], abi=of["abi"]) for name, of in json.load(file).items()}


def amount(text):
    number, unit = text.split(" ")
    return float(number) * {"wei": 1e-18, "gwei": 1e-9}.get(unit, 1)


def budgets():
    """How much of each is used: from 0 to 1."""
    lines = subprocess.run(limits, check=True, capture_output=True, text=True).stdout.splitlines()
    return {row["budget"]: amount(row["used"]) / amount(row["max"]) for row in map(json.loads, lines)}


def money(block):
    """Where it is at one block."""
    ask = lambda function: function.call(block_identifier=block) / 1e6
    balance = lambda token, owner=treasury: contracts[token].functions.balanceOf(owner)
    shares = balance("vault").call(block_identifier=block)
    return {
        "USDC": ask(balance("usdc")),
        "USDT": ask(balance("usdt")),
        "Aave": ask(balance("a_usdc")),
        "vault": ask(contracts["vault"].functions.convertToAssets(shares)),
        "reserve": ask(balance("usdc", contracts["reserve"].address)),
    }


while True:
    sample = {"time": time.time(), **money(w3.eth.block_number), "budgets": budgets()}
    with open(history, "a", encoding="utf-8") as file:
        file.write(json.dumps(sample) + "\n")
    time.sleep(0.5)
