"""Publishing with confirms: a call returns once the broker has taken responsibility, or raises."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractRobustChannel
from aio_pika.exceptions import AMQPError
from tallyho_contracts.event import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE

from tallyho_messaging.lost_links import link_errors
from tallyho_messaging.metrics import PUBLISH_FAILURES, PUBLISH_SECONDS

PUBLISH_TIMEOUT_SECONDS = 5.0


class PublishFailedError(Exception):
    """The broker did not take the message: unroutable, refused, or no answer in time."""


class Publisher:
    """One channel with confirms. Two messages in flight must never share an id: the confirm could be the other's."""

    def __init__(self, channel: AbstractRobustChannel) -> None:
        self._channel = channel

    async def publish_events(
        self,
        exchange: str,
        routing_key: str,
        type_: str,
        ids: Sequence[UUID],
        bodies: Sequence[bytes],
        *,
        also_to: Sequence[str] = (),
        mandatory: bool = True,
    ) -> None:
        """Send events of one type, each encoded in `bodies`, as one message: alone, or as a CloudEvents batch.

        It reaches the queues of the routing keys `also_to` too, each queue once.
        """
        single = len(bodies) == 1
        body = bodies[0] if single else b"[" + b",".join(bodies) + b"]"
        message = aio_pika.Message(
            body,
            content_type=EVENT_CONTENT_TYPE if single else BATCH_CONTENT_TYPE,
            type=type_,
            message_id=str(ids[0]),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            # Source: https://www.rabbitmq.com/docs/sender-selected
            headers={"BCC": list(also_to)} if also_to else None,
        )
        await self.publish(exchange, routing_key, message, mandatory=mandatory)

    async def publish(
        self, exchange: str, routing_key: str, message: aio_pika.Message, *, mandatory: bool = True
    ) -> None:
        """Send one message and wait for its confirm; with `mandatory`, a message that reaches no queue is a failure.

        Raises PublishFailedError.
        """
        started = monotonic()
        try:
            with link_errors():
                # The bound must include the wait for a connection, which the library's own timeout does not.
                async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                    target = (
                        await self._channel.get_exchange(exchange, ensure=False)
                        if exchange
                        else self._channel.default_exchange
                    )
                    await target.publish(message, routing_key, mandatory=mandatory)
        except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
            PUBLISH_FAILURES.inc()
            raise PublishFailedError(
                f"{routing_key} to {exchange or 'a queue'}: {error or type(error).__name__}"
            ) from error
        PUBLISH_SECONDS.observe(monotonic() - started)
