"""What every client must be able to do, unchanged, with web3.py: see scenario.cjs. With ASYNC, by its asynchronous half."""

import asyncio
import inspect
import json
import os
import ssl
import sys
from importlib.metadata import version

from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from web3 import AsyncWeb3, Web3, WebSocketProvider

RECOVERS = "0x60168060093d393df33d3da0363d3d3760203d363d60015afa5060206000f3"
ASYNC = os.environ.get("ASYNC") == "yes"
FROM, OTHER, FRIEND = (Web3.to_checksum_address(os.environ[name]) for name in ("FROM", "OTHER", "FRIEND"))
TYPED_DATA = {
    "types": {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
            {"name": "verifyingContract", "type": "address"},
        ],
        "Order": [{"name": "maker", "type": "address"}, {"name": "amount", "type": "uint256"}, {"name": "note", "type": "string"}],
    },
    "primaryType": "Order",
    "domain": {"name": "Chancery", "version": "1", "chainId": 31337, "verifyingContract": FRIEND},
    # As text: web3.py would write it as a JSON number, which others cannot read exactly, and Chancery refuses.
    "message": {"maker": FROM, "amount": "123456789012345678901234567890", "note": "hello"},
}

if ASYNC:
    w3 = AsyncWeb3(AsyncWeb3.AsyncHTTPProvider(os.environ["URL"]))
else:
    w3 = Web3(Web3.HTTPProvider(os.environ["URL"]))
done = []


async def of(value):
    """What a call gave, whichever half of the library it is of; the synchronous one in a thread."""
    if callable(value):
        value = value() if ASYNC else await asyncio.to_thread(value)
    return await value if inspect.isawaitable(value) else value


async def mined(transaction):
    sent = await of(lambda: w3.eth.send_transaction({"from": FROM, **transaction}))
    return await of(lambda: w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.2))


async def verified_on_chain(contract, message, signature):
    digest = Web3.keccak(b"\x19" + message.version + message.header + message.body)
    r, s, v = signature[:32], signature[32:64], signature[64:]
    said = await of(lambda: w3.eth.call({"to": contract, "data": digest + v.rjust(32, b"\0") + r + s}))
    assert Web3.to_checksum_address(said[-20:]) == FROM


async def hears(contract, act):
    """The address of the first log of `contract`, by subscription; at the gateway itself, with our certificate."""
    tls = ssl.create_default_context(cafile=os.environ["CA"])
    tls.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
    async with AsyncWeb3(WebSocketProvider(os.environ["WSS"], websocket_kwargs={"ssl": tls})) as socket:
        await socket.eth.subscribe("logs", {"address": contract})
        await act()
        async for news in socket.socket.process_subscriptions():
            return news["result"]["address"]


async def scenario():
    assert await of(lambda: w3.eth.accounts) == [FROM, OTHER]
    done.append("accounts")
    assert (await mined({"to": FRIEND, "value": 1}))["status"] == 1
    done.append("transfer")
    contract = (await mined({"data": RECOVERS}))["contractAddress"]
    done.append("deploy")
    receipts = await asyncio.gather(*(mined({"to": FRIEND, "value": 1}) for _ in range(8)))
    assert len({receipt["transactionHash"] for receipt in receipts}) == 8
    done.append("parallel")
    message = encode_defunct(text="hello from web3.py")
    # `eth.sign`, as it comes, is `eth_sign`.
    signature = bytes(await of(lambda: w3.eth.sign(FROM, text="hello from web3.py")))
    assert Account.recover_message(message, signature=signature) == FROM
    await verified_on_chain(contract, message, signature)
    done.append("message")
    done.append("call")
    if not ASYNC:  # whose `sign_typed_data` fails by itself
        message = encode_typed_data(full_message=TYPED_DATA)
        signature = bytes(w3.eth.sign_typed_data(FROM, TYPED_DATA))
        assert Account.recover_message(message, signature=signature) == FROM
        await verified_on_chain(contract, message, signature)
        done.append("typed data")
    else:
        assert await hears(contract, lambda: mined({"to": contract})) == contract
        done.append("events")
    print(json.dumps({"name": "web3.py, async" if ASYNC else "web3.py", "version": version("web3"), "done": done}))


async def trouble():
    try:
        payment = {"from": Web3.to_checksum_address(os.environ["PAYER"]), "to": Web3.to_checksum_address(os.environ["PAYEE"]), "value": 1}
        await of(lambda: w3.eth.send_transaction(payment))
    except Exception as error:  # whatever it is: the user sees it
        print(error)
        return
    sys.exit("this should have failed")


asyncio.run(trouble() if os.environ.get("TROUBLE") else scenario())
