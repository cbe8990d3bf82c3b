"""Keys, tickets, loopback and pages of other sites: who is let in, and how the others are told."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aiohttp import WSMsgType
from ws_gateway import connection, events, firecrawl_watch
from ws_gateway.keys import KeyRing, Scope, Tickets, new_key

NOW = datetime(2025, 1, 2, 12, tzinfo=UTC)
READER, READING = new_key("reader", [Scope.READ])
WRITER, WRITING = new_key("writer", [Scope.READ, Scope.WRITE])
OLD, EXPIRED = new_key("old", [Scope.READ], date(2024, 1, 1))
KEYS = KeyRing([READING, WRITING, EXPIRED])
JOB = UUID(int=1)
SEEDS = {"seeds": ["https://example.com/"]}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def closed(watcher: Any) -> tuple[int, dict[str, Any]]:
    message = await watcher.socket.receive(timeout=30)
    assert message.type is WSMsgType.CLOSE
    return message.data, json.loads(message.extra)


@pytest.mark.parametrize(
    "secret",
    [None, "", "wrong", OLD, f"{READER}x", READER.upper()],
    ids=["none", "empty", "wrong", "old", "longer", "in capitals"],
)
async def test_request_without_a_valid_key_is_unauthorized(gateway_with: Any, secret: str | None) -> None:
    gateway = await gateway_with(keys=KEYS)
    headers = {} if secret is None else bearer(secret)

    response = await gateway.http.get("/v1/jobs", headers=headers)
    code, reason = await closed(await gateway.watch(**headers))

    assert (response.status, (await response.json())["code"]) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert (code, reason["retry"]) == (4401, False)
    assert not gateway.tracker.asked


async def test_key_opens_what_its_scopes_say(gateway_with: Any) -> None:
    gateway = await gateway_with(keys=KEYS)

    read = await gateway.http.get("/v1/jobs", headers=bearer(READER))
    refused = await gateway.http.post("/v1/jobs", json=SEEDS, headers=bearer(READER))
    written = await gateway.http.post("/v1/jobs", json=SEEDS, headers=bearer(WRITER))
    watcher = await gateway.watch("/v1/ws", **bearer(READER))

    assert (read.status, refused.status, written.status) == (200, 403, 201)
    assert (await refused.json())["code"] == "forbidden"
    assert (await watcher.answer_to("subscribe"))["type"] == "subscribed"


async def test_key_that_may_only_write_reads_nothing(gateway_with: Any) -> None:
    secret, key = new_key("submitter", [Scope.WRITE])
    gateway = await gateway_with(keys=KeyRing([key]))

    response = await gateway.http.get("/v1/jobs", headers=bearer(secret))
    code, _ = await closed(await gateway.watch(**bearer(secret)))

    assert (response.status, code) == (403, 4403)


@pytest.mark.parametrize("path", ["/", "/static/style.css", "/healthz", "/v1/openapi.json", "/v1/asyncapi.json"])
async def test_page_health_and_descriptions_need_no_key(gateway_with: Any, path: str) -> None:
    gateway = await gateway_with(keys=KEYS)

    assert (await gateway.http.get(path)).status == 200


async def test_route_that_is_not_there_needs_a_key_too(gateway_with: Any) -> None:
    gateway = await gateway_with(keys=KEYS)

    statuses = [(await gateway.http.get(path)).status for path in ("/v1/nothing", "/healthz/x", "/static")]

    assert statuses == [401, 401, 401]


async def test_ticket_opens_one_socket_once(gateway_with: Any) -> None:
    gateway = await gateway_with(keys=KEYS)
    response = await gateway.http.post("/v1/tickets", headers=bearer(READER))
    ticket = (await response.json())["ticket"]

    watcher = await gateway.watch(f"/v1/ws?ticket={ticket}")
    answer = await watcher.answer_to("subscribe")
    code, _ = await closed(await gateway.watch(f"/v1/ws?ticket={ticket}"))

    assert (response.status, answer["type"], code) == (201, "subscribed", 4401)


async def test_ticket_opens_nothing_but_sockets_and_event_streams(gateway_with: Any) -> None:
    gateway = await gateway_with(keys=KEYS)
    ticket = (await (await gateway.http.post("/v1/tickets", headers=bearer(WRITER))).json())["ticket"]

    statuses = [
        (await gateway.http.get(f"/v1/jobs?ticket={ticket}")).status,
        (await gateway.http.post(f"/v1/jobs?ticket={ticket}", json=SEEDS)).status,
        (await gateway.http.post(f"/v1/tickets?ticket={ticket}")).status,
    ]

    assert statuses == [401, 401, 401]


async def test_without_keys_no_ticket_is_needed_nor_given(gateway: Any) -> None:
    response = await gateway.http.post("/v1/tickets")

    assert (response.status, (await response.json())["code"]) == (409, "no_keys")


def test_ticket_is_false_late_or_used_once() -> None:
    tickets, others = Tickets(b"one secret"), Tickets(b"another")
    ticket = tickets.issue(READING, NOW)

    assert others.redeem(ticket, NOW) is None
    assert tickets.redeem(ticket, NOW + timedelta(seconds=31)) is None
    assert tickets.redeem(ticket.replace("reader", "writer"), NOW) is None
    assert tickets.redeem(ticket, NOW) == "reader"
    assert tickets.redeem(ticket, NOW) is None
    assert [tickets.redeem(text, NOW) for text in ("", ".", "...", "é", "a.b.c.d")] == [None] * 5


def test_ticket_is_accepted_by_a_replica_with_the_same_secret() -> None:
    assert Tickets(b"shared").redeem(Tickets(b"shared").issue(READING, NOW), NOW) == "reader"


async def test_key_that_expires_takes_its_socket_along(gateway_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, key = new_key("today", [Scope.READ], date.max)
    monkeypatch.setattr(connection, "PING_SECONDS", 0.2)
    gateway = await gateway_with(keys=KeyRing([key]))
    watcher = await gateway.watch("/v1/ws", **bearer(secret))
    monkeypatch.setattr(type(key), "has_expired", lambda *_: True)

    while (message := await watcher.socket.receive(timeout=30)).type is WSMsgType.TEXT:
        pass

    assert (message.type, message.data) == (WSMsgType.CLOSE, 4401)


async def test_key_that_expires_ends_its_event_streams_and_watchers_too(
    gateway_with: Any, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, key = new_key("today", [Scope.READ], date.max)
    for module in (events, firecrawl_watch):
        monkeypatch.setattr(module, "PING_SECONDS", 0.2)
    gateway = await gateway_with(keys=KeyRing([key]))
    gateway.tracker.add(state(1))
    stream = await gateway.http.get(f"/v1/jobs/{JOB}/events", headers=bearer(secret))
    watcher = await gateway.watch(f"/v2/crawl/{JOB}", **bearer(secret))
    monkeypatch.setattr(type(key), "has_expired", lambda *_: True)

    async with asyncio.timeout(30):
        await stream.content.read()
        while (message := await watcher.socket.receive()).type is WSMsgType.TEXT:
            pass

    assert (message.type, message.data) == (WSMsgType.CLOSE, 4401)


def test_keys_are_read_from_lines_and_words() -> None:
    ring = KeyRing.parse(f"# ours\n{READING.line()} {WRITING.line()}\n\n{EXPIRED.line()}  # gone\n")

    assert ring.find(READER, NOW) == READING
    assert ring.find(WRITER, NOW) == WRITING
    assert ring.find(OLD, NOW) is None
    assert READER not in READING.line()


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        f"reader:read:{READER}",
        f"reader:admin:{'0' * 64}",
        f":read:{'0' * 64}",
        f"a:read:{'0' * 64}:soon",
        f"a:read:{'0' * 64} a:write:{'1' * 64}",
    ],
    ids=["one word", "a secret instead of its hash", "no such scope", "no name", "no date", "a name twice"],
)
def test_malformed_keys_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        KeyRing.parse(text)

    assert READER not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "10.0.0.1", "localhost.evil.example", "[::2]"])
async def test_without_keys_only_names_of_this_machine_are_served(gateway: Any, host: str) -> None:
    response = await gateway.http.get("/v1/jobs", headers={"Host": host})
    rebound = await gateway.watch(Host=host, Origin=f"http://{host}")

    assert (response.status, (await response.json())["code"]) == (403, "keys_needed")
    assert (await closed(rebound))[0] == 4403


async def test_host_and_origin_that_are_no_names_are_foreign(gateway_with: Any) -> None:
    open_gateway, guarded = await gateway_with(), await gateway_with(keys=KEYS)

    no_host = await open_gateway.http.get("/v1/jobs", headers={"Host": "["})
    no_origin = await guarded.http.post("/v1/jobs", json=SEEDS, headers={"Origin": "http://["})

    assert (no_host.status, (await no_host.json())["code"]) == (403, "keys_needed")
    assert (no_origin.status, (await no_origin.json())["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "tallyho.localhost"])
async def test_without_keys_this_machine_is_served(gateway: Any, host: str) -> None:
    assert (await gateway.http.get("/v1/jobs", headers={"Host": host})).status == 200


async def test_health_is_told_to_whoever_asks(gateway: Any) -> None:
    assert (await gateway.http.get("/healthz", headers={"Host": "10.1.2.3:8080"})).status == 200


async def test_allowed_site_may_open_sockets_and_read_answers(gateway_with: Any) -> None:
    site = "https://app.example"
    gateway = await gateway_with(keys=KEYS, origins=frozenset({site}))

    asked = await gateway.http.options("/v1/jobs", headers={"Origin": site, "Access-Control-Request-Method": "POST"})
    written = await gateway.http.post("/v1/jobs", json=SEEDS, headers={"Origin": site} | bearer(WRITER))
    foreign = await gateway.http.post(
        "/v1/jobs", json=SEEDS, headers={"Origin": "https://evil.example"} | bearer(WRITER)
    )
    watcher = await gateway.watch("/v1/ws", Origin=site, **bearer(READER))
    code, _ = await closed(await gateway.watch(Origin="https://app.example.evil", **bearer(READER)))

    assert (asked.status, written.status, foreign.status, code) == (204, 201, 403, 4403)
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    assert written.headers["Access-Control-Allow-Origin"] == site
    assert "Access-Control-Allow-Origin" not in foreign.headers
    assert (await watcher.answer_to("subscribe"))["type"] == "subscribed"


@pytest.mark.parametrize("secret", [READER, "wrong", OLD], ids=["valid", "wrong", "old"])
async def test_watcher_of_firecrawls_package_names_its_key_as_the_subprotocol(
    gateway_with: Any, state: Any, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await gateway_with(keys=KEYS)
    job = state(1)
    gateway.tracker.add(job)

    async with gateway.http.ws_connect(f"/v2/crawl/{job.job_id}", protocols=[secret]) as socket:
        message = await socket.receive(timeout=30)

    assert secret not in caplog.text
    if secret == READER:
        assert message.json()["type"] == "catchup"
        assert socket.protocol == READER
    else:
        assert (message.type, message.data) == (WSMsgType.CLOSE, 4401)


async def test_problem_of_a_key_has_firecrawls_shape_below_its_prefix(gateway_with: Any) -> None:
    gateway = await gateway_with(keys=KEYS)

    response = await gateway.http.post("/v2/crawl", json={"url": "https://example.com/"}, headers=bearer(READER))

    assert response.status == 403
    assert (await response.json())["success"] is False
