"""web3.py on a connector's unix socket: a payment, and the block with it by a subscription."""

import asyncio
import os

from web3 import AsyncIPCProvider, AsyncWeb3


async def main():
    async with AsyncWeb3(AsyncIPCProvider(os.environ["SOCKET"])) as web3:
        subscription = await web3.eth.subscribe("newHeads")
        payment = {"from": os.environ["FROM"], "to": AsyncWeb3.to_checksum_address(os.environ["FRIEND"]), "value": 1, "gas": 21000}
        hash = await web3.eth.send_transaction(payment)
        receipt = await web3.eth.wait_for_transaction_receipt(hash)
        async for news in web3.socket.process_subscriptions():
            assert news["subscription"] == subscription, news
            if news["result"]["hash"] == receipt["blockHash"]:
                break
        assert await web3.eth.unsubscribe(subscription)
        assert await web3.eth.chain_id == 31337
    print("all is well")


asyncio.run(asyncio.wait_for(main(), 60))
