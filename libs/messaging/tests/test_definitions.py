"""The broker's users, as the deploy step prints them."""

import base64
import hashlib
import json

import pytest
from tallyho_messaging.__main__ import main
from tallyho_messaging.accounts import ACCOUNTS, definitions

PASSWORDS = {
    "CRAWLER_AMQP_PASSWORD": "1",
    "JOB_TRACKER_AMQP_PASSWORD": "2",
    "WS_GATEWAY_AMQP_PASSWORD": "3",
    "DEPLOY_AMQP_PASSWORD": "4",
}


def test_every_user_has_its_password_and_its_permissions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, password in PASSWORDS.items():
        monkeypatch.setenv(name, password)
    code = main(["definitions"])
    printed = json.loads(capsys.readouterr().out)

    assert code == 0
    for user, password in zip(printed["users"], PASSWORDS.values(), strict=True):
        hashed = base64.b64decode(user["password_hash"])
        assert hashed[4:] == hashlib.sha256(hashed[:4] + password.encode()).digest()
        assert user["tags"] == []
    for part in ("users", "permissions"):
        assert {one.get("user", one.get("name")) for one in printed[part]} == ACCOUNTS.keys()
    assert len(printed["topic_permissions"]) == sum(len(account.topics) for account in ACCOUNTS.values())


def test_password_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in PASSWORDS:
        monkeypatch.delenv(name, raising=False)

    assert main(["definitions"]) == 2
    assert capsys.readouterr().err == "cannot print the definitions: CRAWLER_AMQP_PASSWORD is not set\n"


def test_only_an_administrator_may_do_everything() -> None:
    printed = json.loads(definitions({"crawler": "x", "root": "y"}, administrators=["root"]))

    assert [user["tags"] for user in printed["users"]] == [[], ["administrator"]]
    assert [one["configure"] == ".*" for one in printed["permissions"]] == [False, True]
