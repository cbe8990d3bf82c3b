"""Whom the servers know besides their administrator; made where the servers are ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from urllib.parse import urlsplit, urlunsplit

ADMINISTRATOR = "tallyho"

# The broker's definitions, given the passwords of its users; the administrator is one of them.
Definitions = Callable[[Mapping[str, str]], str]


@dataclass(frozen=True)
class Accounts:
    """Users of the broker and roles of the database, with passwords of this run.

    The broker imports its users when it starts. The roles are created by whoever prepares the database.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    definitions: Definitions | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, users: tuple[str, ...], definitions: Definitions, roles: tuple[str, ...]) -> "Accounts":
        """Accounts of these names."""
        return cls({user: token_hex(16) for user in users}, definitions, {role: token_hex(16) for role in roles})


def as_user(url: str, name: str, password: str) -> str:
    """The same address, for somebody else."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"))
