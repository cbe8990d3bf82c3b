"""Which database errors pass by themselves."""

import asyncpg

# Class 08 connection, 28 authorization (a password that is being changed: a restart brings the new one), 40 rollback
# (deadlock, serialization), 53 resources (disk full, too many connections), 57P operator intervention (shutdown, cannot
# connect now), 55P03 lock not available, 25P03 session ended because its transaction was kept waiting, 25006 read-only
# (another server has taken over, or the disk is nearly full), 58 system error.
# Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_STATES = ("08", "28", "40", "53", "57P", "55P03", "25P03", "25006", "58")


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later, unchanged: the server is away, full or busy, or refuses us."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_TRANSIENT_STATES)
    # The library's internal error is what a connection gives that dies between two of its steps.
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)
