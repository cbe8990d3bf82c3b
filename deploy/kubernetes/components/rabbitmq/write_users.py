"""Write users.yaml: the users of accounts.py, as the Messaging Topology Operator wants them. Run by `make users`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tallyho_messaging.accounts import ACCOUNTS

COMMENT = "# Written by `make users` from libs/messaging's accounts.py. The passwords are those of the Secrets.\n"


def resources() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Kind, name and spec of each resource."""
    for user, account in ACCOUNTS.items():
        yield "User", user, {"importCredentialsSecret": {"name": f"{user}-broker"}}
        everything = {"configure": account.configure, "write": account.write, "read": account.read}
        yield "Permission", user, {"vhost": "/", "userReference": {"name": user}, "permissions": everything}
        for exchange, keys in account.topics.items():
            permissions = {"exchange": exchange, "write": keys, "read": ".*"}
            name = f"{user}-{exchange.removeprefix('tallyho.')}"
            yield "TopicPermission", name, {"vhost": "/", "userReference": {"name": user}, "permissions": permissions}


def manifests() -> str:
    """The manifests of all users."""
    documents = [
        {
            "apiVersion": "rabbitmq.com/v1beta1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": {**spec, "rabbitmqClusterReference": {"name": "rabbitmq"}},
        }
        for kind, name, spec in resources()
    ]
    return COMMENT + yaml.safe_dump_all(documents, sort_keys=False, width=1000)


if __name__ == "__main__":
    (Path(__file__).parent / "users.yaml").write_text(manifests())
