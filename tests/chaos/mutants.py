"""Builds that are broken on purpose: what the suite must notice, or it proves nothing."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID

from aio_pika.abc import AbstractIncomingMessage
from tallyho_messaging import consumer
from tallyho_messaging.lost_links import acknowledge
from tallyho_postgres import outbox


def acknowledge_before_the_commit() -> None:
    """Take the messages off the broker as they arrive, then apply them."""
    receive = consumer.Consumer._receive

    async def acknowledge_and_receive(self: consumer.Consumer, message: AbstractIncomingMessage) -> None:
        await acknowledge(message)
        await receive(self, message)

    async def done_already(_: Sequence[AbstractIncomingMessage]) -> None:
        return

    consumer.Consumer._receive = acknowledge_and_receive  # type: ignore[method-assign]
    consumer.acknowledge_all = done_already  # type: ignore[assignment]


def publish_without_outbox() -> None:
    """Publish after the commit from memory alone."""

    async def add_nothing(*_: object) -> None:
        return

    outbox.add = add_nothing  # type: ignore[assignment]


def read_modify_write() -> None:
    """Read the job's count without its lock, add to it, and write the sum back."""
    from job_tracker import store

    step, lock_jobs = store._step, store.lock_jobs
    lock, advance = store.SQL["lock_jobs"], store.SQL["advance_jobs"]

    def step_with_sum(before: Any, after: Any) -> dict[str, object]:
        return {**step(before, after), "document_count": after.document_count}

    async def read_jobs(connection: Any, job_ids: Any) -> Any:
        jobs = await lock_jobs(connection, job_ids)
        await asyncio.sleep(0.02)  # what comes between reading and writing
        return jobs

    store._step = step_with_sum
    store.lock_jobs = read_jobs
    store.SQL = MappingProxyType(
        {
            **store.SQL,
            "lock_jobs": _replaced(lock, "FOR UPDATE", ""),
            # Not after the count: numbers that are taken would be refused, and only that be noticed.
            "add_documents": _replaced(
                store.SQL["add_documents"],
                "(SELECT document_count FROM jobs WHERE job_id = parent_job_id)",
                "(SELECT coalesce(max(ordinal), 0) FROM job_documents AS counted"
                " WHERE counted.parent_job_id = incoming.parent_job_id)",
            ),
            "advance_jobs": _replaced(
                _replaced(
                    advance, "job_id uuid, documents bigint", "job_id uuid, document_count bigint, documents bigint"
                ),
                "document_count = jobs.document_count + step.documents",
                "document_count = step.document_count",
            ),
        }
    )


def count_messages() -> None:
    """Count each message that says a document was saved, instead of the set of documents."""
    from job_tracker import store
    from job_tracker.batches import is_described

    add_documents = store.add_documents

    async def add_and_count(connection: Any, documents: Mapping[tuple[UUID, UUID], Any]) -> dict[UUID, int]:
        await add_documents(connection, documents)
        return _tally(parent for (parent, _), row in documents.items() if is_described(row))

    store.add_documents = add_and_count


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (acknowledge_before_the_commit, publish_without_outbox, read_modify_write, count_messages)
}


def _tally(jobs: Iterable[UUID]) -> dict[UUID, int]:
    counts: dict[UUID, int] = {}
    for job_id in jobs:
        counts[job_id] = counts.get(job_id, 0) + 1
    return counts


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"the mutant no longer fits the code: {old}"
    return text.replace(old, new)
