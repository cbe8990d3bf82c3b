"""API keys and tickets. No I/O; the time is passed in.

The gateway knows of a key only its SHA-256. That is enough for secrets of 256 random bits, which nobody can guess, and
it is checked in constant time against every key.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum

TICKET_SECONDS = 30
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a key is good for: GET and HEAD read, all other methods write."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Key:
    """A key as it is kept: `digest` is the SHA-256 of the secret; it ends with the day `expires` begins, in UTC."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes
    expires: date | None = None

    def has_expired(self, now: datetime) -> bool:
        """Whether it is of no use any more."""
        return self.expires is not None and now >= datetime.combine(self.expires, time(), UTC)

    def line(self) -> str:
        """The key as a setting: `name:scopes:digest`, and the day if it ends."""
        parts = [self.name, ",".join(sorted(self.scopes)), self.digest.hex()]
        return ":".join(parts + ([self.expires.isoformat()] if self.expires else []))


class KeyRing:
    """The keys that are accepted."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.name: key for key in keys}

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read keys, one a line or separated by blanks; `#` begins a comment. Raises ValueError, without the text."""
        words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
        keys = [_parse(word, number) for number, word in enumerate(words, start=1)]
        if len({key.name for key in keys}) < len(keys):
            raise ValueError("two keys have the same name")
        return cls(keys)

    def __bool__(self) -> bool:
        """Whether any key is asked for."""
        return bool(self._keys)

    def find(self, secret: str, now: datetime) -> Key | None:
        """The key of a secret, unless it has expired."""
        digest = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        found = [key for key in self._keys.values() if hmac.compare_digest(key.digest, digest)]
        return next((key for key in found if not key.has_expired(now)), None)

    def named(self, name: str, now: datetime) -> Key | None:
        """The key of that name, unless it has expired."""
        key = self._keys.get(name)
        return None if key is None or key.has_expired(now) else key


def _parse(word: str, number: int) -> Key:
    name, _, rest = word.partition(":")
    scopes, _, rest = rest.partition(":")
    digest, _, expires = rest.partition(":")
    # Not the word itself: somebody may have put the secret there.
    malformed = ValueError(f"key {number} is not name:read,write:sha256-in-hexadecimal[:YYYY-MM-DD]")
    if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
        raise malformed
    try:
        day = date.fromisoformat(expires) if expires else None
        return Key(name, frozenset(map(Scope, scopes.split(","))), bytes.fromhex(digest), day)
    except ValueError:
        raise malformed from None


def new_key(name: str, scopes: Iterable[Scope], expires: date | None = None) -> tuple[str, Key]:
    """A fresh secret, and the key to keep of it."""
    secret = f"tallyho_{secrets.token_urlsafe(32)}"
    return secret, Key(name, frozenset(scopes), hashlib.sha256(secret.encode()).digest(), expires)


class Tickets:
    """Short-lived passes for browsers, which can't send a key with a WebSocket: each opens one, once.

    Replicas with the same secret accept each other's tickets.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._used: dict[str, float] = {}

    def issue(self, key: Key, now: datetime) -> str:
        """A ticket to read with the rights of a key."""
        text = f"{key.name}.{int(now.timestamp()) + TICKET_SECONDS}.{secrets.token_urlsafe(16)}"
        return f"{text}.{self._signature(text)}"

    def redeem(self, ticket: str, now: datetime) -> str | None:
        """The name of its key, once; None for a ticket that is false, late or used."""
        text, _, signature = ticket.rpartition(".")
        if not hmac.compare_digest(signature.encode(errors="replace"), self._signature(text).encode()):
            return None
        name, expires, _ = text.split(".")
        if now.timestamp() >= int(expires) or ticket in self._used:
            return None
        self._used = {used: until for used, until in self._used.items() if until > now.timestamp()}
        self._used[ticket] = float(expires)
        return name

    def _signature(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(errors="replace"), hashlib.sha256).hexdigest()
