"""The broker's users: what each service may do there, and nothing else.

`python -m tallyho_messaging definitions` prints them for the broker to import: AMQP itself can't create users.
A pattern is matched against the names of queues and exchanges, a topic pattern against the routing key of what is
published. Source: https://www.rabbitmq.com/docs/access-control
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tallyho_contracts.registry import COMMANDS, EVENTS, REPLIES

from tallyho_messaging.topology import DEAD_LETTERS, EXCHANGES

NOTHING = "^$"


@dataclass(frozen=True)
class Account:
    """What one user may configure, write to and read, and with which routing keys it may publish to an exchange."""

    configure: str
    write: str
    read: str
    topics: Mapping[str, str] = field(default_factory=dict)


# Nobody is held to routing keys of `tallyho.replies`: only queues that wait for replies are bound to it, and the keys
# come from whoever asked. One that was refused would close the channel of whoever answers.
#
# A service declares passively. RabbitMQ 4.3.0 wants `configure` for that, so each has it for the queues that it owns.
ACCOUNTS: Mapping[str, Account] = {
    "crawler": Account(
        configure=r"^crawler\.(commands|requests)$",
        write=rf"^({EVENTS}|{DEAD_LETTERS}|{REPLIES})$",
        read=r"^crawler\.(commands|requests)$",
        topics={EVENTS: r"^((document|page|crawl)\.|job\.log\.)", DEAD_LETTERS: r"^crawler\."},
    ),
    "job-tracker": Account(
        configure=r"^job-tracker\.(events|commands|logs)$",
        write=rf"^({EVENTS}|{COMMANDS}|{DEAD_LETTERS}|{REPLIES})$",
        read=r"^job-tracker\.(events|commands|logs)$",
        topics={
            EVENTS: r"^job\.",
            COMMANDS: r"^crawl\.",
            DEAD_LETTERS: r"^job-tracker\.",
        },
    ),
    "ws-gateway": Account(
        configure=r"^ws-gateway\.",
        write=rf"^(ws-gateway\..*|{COMMANDS})$",
        read=rf"^(ws-gateway\..*|{EVENTS}|{REPLIES})$",
        topics={COMMANDS: r"^(job|document|url)\.", EVENTS: NOTHING},
    ),
    # Declares the topology, and publishes nothing. To bind needs write on the queue and read on the exchange; to say
    # where a queue's dead letters go needs read on the queue.
    "deploy": Account(
        configure=r"^(tallyho|crawler|job-tracker)\.",
        write=r"^(tallyho\.dead-letters|(crawler|job-tracker)\..*)$",
        read=r"^(tallyho|crawler|job-tracker)\.",
        topics={EVENTS: NOTHING, COMMANDS: NOTHING, REPLIES: NOTHING, DEAD_LETTERS: NOTHING},
    ),
}


def definitions(passwords: Mapping[str, str], *, administrators: Collection[str] = (), vhost: str = "/") -> str:
    """The users with these passwords, in RabbitMQ's format; one that is no account must be an administrator."""
    accounts = {name: ACCOUNTS[name] for name in passwords if name not in administrators}
    everything = dict.fromkeys(administrators, Account(".*", ".*", ".*"))
    permissions = {**accounts, **everything}
    return json.dumps(
        {
            "vhosts": [{"name": vhost}],
            "users": [_user(name, password, name in administrators) for name, password in passwords.items()],
            "permissions": [
                {"user": name, "vhost": vhost, "configure": one.configure, "write": one.write, "read": one.read}
                for name, one in permissions.items()
            ],
            "topic_permissions": [
                {"user": name, "vhost": vhost, "exchange": exchange, "write": pattern, "read": ".*"}
                for name, one in permissions.items()
                for exchange, pattern in one.topics.items()
            ],
            # RabbitMQ 4.3 knows no permission for an exchange that is not there yet, and does not start.
            "exchanges": [
                {"name": name, "vhost": vhost, "type": "topic", "durable": True, "auto_delete": False}
                | {"internal": False, "arguments": {}}
                for name in EXCHANGES
            ],
        },
        indent=2,
    )


def _user(name: str, password: str, is_administrator: bool) -> dict[str, object]:  # noqa: FBT001  # one of two kinds
    # Source: https://www.rabbitmq.com/docs/passwords#computing-password-hash
    salt = secrets.token_bytes(4)
    hashed = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {
        "name": name,
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ["administrator"] if is_administrator else [],
    }
