"""What every client must be able to do, unchanged, with web3.py: see scenario.cjs."""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from eth_account import Account
from eth_account.messages import encode_defunct
from web3 import Web3
from web3.exceptions import Web3RPCError

CODE = "0x600a600c600039600a6000f3602a60005260206000f3"
FROM, FRIEND, STRANGER = (Web3.to_checksum_address(os.environ[name]) for name in ("FROM", "FRIEND", "STRANGER"))

w3 = Web3(Web3.HTTPProvider(os.environ["URL"]))
assert w3.eth.accounts == [FROM]


def mined(transaction):
    return w3.eth.wait_for_transaction_receipt(w3.eth.send_transaction(transaction), poll_latency=0.2)


def pay(_=0):
    return mined({"from": FROM, "to": FRIEND, "value": 1})


assert pay()["status"] == 1
contract = mined({"from": FROM, "data": CODE})["contractAddress"]
assert int.from_bytes(w3.eth.call({"to": contract}), "big") == 42
with ThreadPoolExecutor(8) as pool:
    assert len({receipt["transactionHash"] for receipt in pool.map(pay, range(8))}) == 8
text = "hello from web3.py"
signature = w3.provider.make_request("personal_sign", [Web3.to_hex(text=text), FROM])["result"]
assert Account.recover_message(encode_defunct(text=text), signature=signature) == FROM
try:
    w3.eth.send_transaction({"from": FROM, "to": STRANGER, "value": 1})
    raise AssertionError("this should have been refused")
except Web3RPCError as error:
    assert "blocked" in str(error), error
print(f"clients web3.py {version('web3')}: ok")
