"""Keys, and what a gateway says when it closes a WebSocket."""

import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from tallyho.client import Tallyho
from tallyho.errors import GatewayUnreachable, NotAllowed, NotAuthenticated, RequestRefused, TallyhoError
from tallyho.frames import closing
from tallyho.outage import GatewayAway
from tallyho_contracts.jobs import JobStatus

if TYPE_CHECKING:
    from clients.python.tests.conftest import GatewayDouble


async def test_key_goes_with_every_request_and_socket(gateway: "GatewayDouble") -> None:
    gateway.key = "secret"
    gateway.present = gateway.state(2, JobStatus.COMPLETED)
    async with Tallyho(gateway.url, api_key="secret") as client:
        last = await client.crawl("http://site/")

    assert last.revision == 2


async def test_key_and_address_come_from_the_environment_unless_given(
    gateway: "GatewayDouble", monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.key = "secret"
    monkeypatch.setenv("TALLYHO_URL", gateway.url)
    monkeypatch.setenv("TALLYHO_API_KEY", "secret")
    async with Tallyho() as client:
        await client.job(gateway.job_id)
    async with Tallyho(api_key="other") as client:
        with pytest.raises(NotAuthenticated):
            await client.job(gateway.job_id)


@pytest.mark.parametrize("api_key", [None, "wrong"])
async def test_missing_and_wrong_keys_are_refused_at_once_and_say_what_to_set(
    gateway: "GatewayDouble", api_key: str | None
) -> None:
    gateway.key = "secret"
    async with Tallyho(gateway.url, api_key=api_key) as client:
        with pytest.raises(NotAuthenticated, match="TALLYHO_API_KEY"):
            await client.job(gateway.job_id)
        with pytest.raises(NotAuthenticated, match=r"a valid key is needed .*TALLYHO_API_KEY"):
            await anext(client.watch(gateway.job_id))
        with pytest.raises(NotAuthenticated):
            await anext(client.documents(gateway.job_id, live=True))


async def test_key_without_the_right_is_told_from_one_that_is_unknown(gateway: "GatewayDouble") -> None:
    gateway.refuse_next = [gateway.problem(403, "forbidden", "The key may not write."), web.Response(status=403)]
    gateway.close_next = [(4403, '{"reason":"not allowed","retry":false}')]
    async with Tallyho(gateway.url) as client:
        with pytest.raises(NotAllowed, match="may not write"):
            await client.cancel(gateway.job_id)
        with pytest.raises(NotAllowed):  # a proxy's answer to the handshake
            await anext(client.watch(gateway.job_id))
        with pytest.raises(NotAllowed, match="not allowed"):
            await anext(client.watch(gateway.job_id))


def test_key_that_is_none_is_refused_without_being_repeated() -> None:
    with pytest.raises(TallyhoError) as caught:
        Tallyho(api_key="se\ncret")

    assert "cret" not in str(caught.value)


async def test_restarting_gateway_is_come_back_to_after_the_time_it_says(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(2, JobStatus.COMPLETED)
    gateway.close_next = [(1012, '{"reason":"restarting","retry":true,"retry_ms":700}')]
    async with Tallyho(gateway.url) as client:
        started = time.monotonic()
        states = [state.revision async for state in client.watch(gateway.job_id)]

    assert states == [2]
    assert time.monotonic() - started >= 0.7


async def test_told_time_is_no_longer_than_the_patience(gateway: "GatewayDouble") -> None:
    gateway.close_next = [(4429, '{"reason":"too many connections","retry":true,"retry_ms":30000}')] * 3
    async with Tallyho(gateway.url, patience=0.3) as client:
        started = time.monotonic()
        with pytest.raises(GatewayUnreachable, match="too many connections"):
            await anext(client.watch(gateway.job_id))

    assert time.monotonic() - started < 25


async def test_unavailable_gateway_is_asked_again_after_the_time_it_says(gateway: "GatewayDouble") -> None:
    gateway.refuse_next = [web.Response(status=503, headers={"Retry-After": "1"})]
    async with Tallyho(gateway.url) as client:
        started = time.monotonic()
        await client.job(gateway.job_id)

    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1012, "", GatewayAway),
        (1006, "", GatewayAway),
        (4408, '{"reason":"too slow: resume","retry":true,"retry_ms":500}', GatewayAway),
        (4499, '{"reason":"unknown yet","retry":true}', GatewayAway),
        (4499, '{"reason":"unknown yet","retry":false}', RequestRefused),
        (4400, "not JSON", RequestRefused),
        (4401, '{"retry":"nonsense","retry_ms":"nonsense"}', NotAuthenticated),
        (4403, "[]", NotAllowed),
        (1009, "", RequestRefused),
    ],
)
def test_reason_decides_about_coming_back_and_else_the_code(code: int, reason: str, kind: type[Exception]) -> None:
    assert type(closing(code, reason)) is kind
