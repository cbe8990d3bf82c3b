"""Messages that nobody can understand, published among the good ones of a running crawl."""

import asyncio
import json

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from crawling import check_count, check_every_state, crawl
from sites import made_up_site
from tallyho.system import System
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.dead_letters import REASON
from tallyho_messaging.topology import DEAD_LETTERS

BAD = {
    "not JSON": ("document.saved.v1", b"{"),
    "unknown type": ("document.saved.v99", json.dumps({"type": "document.saved.v99"}).encode()),
    "no fields": ("page.finished.v1", json.dumps({"type": "page.finished.v1", "data": {}}).encode()),
}


async def test_bad_messages_are_kept_with_their_reason_and_disturb_nothing(system: System) -> None:
    with made_up_site(120, latency=0.02) as site:
        crawling = asyncio.create_task(crawl(system.url, site))
        async with await aio_pika.connect(system.amqp_url) as connection:
            channel = await connection.channel()
            events = await channel.get_exchange(EVENTS)
            for key, body in BAD.values():
                await events.publish(aio_pika.Message(body), key)
            states = await crawling
            queue = await channel.declare_queue(DEAD_LETTERS, passive=True)
            letters: list[AbstractIncomingMessage] = []
            async with asyncio.timeout(30):
                while len(letters) < len(BAD):
                    if letter := await queue.get(fail=False):
                        letters.append(letter)

    check_every_state(states)
    await check_count(system.url, system.database_url, states, 120)
    assert {letter.body for letter in letters} == {body for _, body in BAD.values()}
    assert all(letter.headers[REASON] for letter in letters)
