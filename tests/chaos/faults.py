"""All faults. Each is injected and lifted by one call, which returns when its cause is gone."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from chaos import broker_faults, database_faults, message_faults, network_faults, process_faults
from chaos.sabotage import AFTER_COMMIT, BEFORE_ACK, BEFORE_COMMIT, BEFORE_DELETE, BEFORE_REPLY, REPLY_RECEIVED
from chaos.stage import Stage

Inject = Callable[[Stage, Random], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault; in a long run it is injected in proportion to `weight`. A `slow` one takes 20 s or more."""

    name: str
    inject: Inject
    weight: int
    slow: bool = False


killed = process_faults.killed_at

FAULTS = (
    Fault("crawler killed before its commit", killed("crawler", BEFORE_COMMIT, 8), 14),
    Fault("crawler killed between commit and publish", killed("crawler", AFTER_COMMIT, 8), 14),
    Fault("crawler killed between confirm and delete", killed("crawler", BEFORE_DELETE, 8), 14),
    Fault("crawler killed between apply and ack", killed("crawler", BEFORE_ACK, 2), 8),
    Fault("tracker killed before its commit", killed("job-tracker", BEFORE_COMMIT, 8), 14),
    Fault("tracker killed between commit and publish", killed("job-tracker", AFTER_COMMIT, 8), 14),
    Fault("tracker killed between confirm and delete", killed("job-tracker", BEFORE_DELETE, 1), 6),
    Fault("tracker killed between apply and ack", killed("job-tracker", BEFORE_ACK, 8), 14),
    Fault("tracker killed while answering", killed("job-tracker", BEFORE_REPLY, 3), 8),
    Fault("gateway killed while answering", killed("ws-gateway", REPLY_RECEIVED, 3), 8),
    Fault("any service killed at any moment", process_faults.killed_any_time, 14),
    Fault("SIGTERM under load", process_faults.terminated, 10),
    Fault("frozen for longer than its lease", process_faults.frozen, 6),
    Fault("frozen for longer than the outbox's lease", process_faults.frozen_long, 1, slow=True),
    Fault("frozen in the middle of a statement", process_faults.frozen_in_a_statement, 1, slow=True),
    Fault("broker killed", broker_faults.killed, 2),
    Fault("broker stopped", broker_faults.stopped, 2),
    Fault("broker out of memory", broker_faults.out_of_memory, 2),
    Fault("queue unbound", broker_faults.unbound, 4),
    Fault("permission refused", broker_faults.refused, 2),
    Fault("broker connections reset", network_faults.broker_reset, 6),
    Fault("broker connections half-open", network_faults.broker_cut_off, 1, slow=True),
    Fault("broker connections slow", network_faults.broker_slow, 3),
    Fault("database connections reset", network_faults.database_reset, 6),
    Fault("database connections half-open", network_faults.database_cut_off, 1, slow=True),
    Fault("database connections slow", network_faults.database_slow, 3),
    Fault("database killed", database_faults.killed, 2),
    Fault("database restarted", database_faults.restarted, 2),
    Fault("database sessions ended", database_faults.sessions_ended, 6),
    Fault("database full of connections", database_faults.full_of_connections, 4),
    Fault("database disk full", database_faults.disk_full, 4),
    Fault("poison among the messages", message_faults.poisoned, 8),
    Fault("messages repeated", message_faults.repeated, 8),
    Fault("messages of a newer release", message_faults.newer_release, 4),
    Fault("messages of an older release", message_faults.older_release, 4),
)


def deck(number: int, rng: Random, kinds: Sequence[Fault]) -> list[Fault]:
    """`number` faults in random order: one of each kind that there is room for, the others by weight."""
    dealt = rng.sample(kinds, min(number, len(kinds)))
    dealt += rng.choices(kinds, weights=[fault.weight for fault in kinds], k=number - len(dealt))
    rng.shuffle(dealt)
    return dealt
