"""HTTP requests as Prometheus sees them: by route, and never a series for what strangers make up."""

from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY

REQUESTS, SECONDS = "tallyho_http_requests_total", "tallyho_http_request_seconds_count"


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def series() -> int:
    return sum(len(metric.samples) for metric in REGISTRY.collect() if metric.name.startswith("tallyho_http"))


async def test_request_is_counted_by_its_route_and_answer(gateway: Any) -> None:
    ok = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "404"}
    bad = {"method": "POST", "route": "/v1/jobs", "status": "422"}
    before = [counted(REQUESTS, **one) for one in (ok, bad)], counted(SECONDS, route="/v1/jobs")
    await gateway.http.get("/v1/jobs/00000000-0000-0000-0000-000000000001")
    await gateway.http.post("/v1/jobs", json={})

    assert [counted(REQUESTS, **one) for one in (ok, bad)] == [count + 1 for count in before[0]]
    assert counted(SECONDS, route="/v1/jobs") == before[1] + 1


async def test_paths_and_methods_that_are_made_up_share_one_series(gateway: Any) -> None:
    await gateway.http.get("/made-up")
    await gateway.http.request("BREW", "/v1/jobs")
    await gateway.http.request("BREW", "/pot")
    before = series()
    for number in range(20):
        await gateway.http.get(f"/made-up/{number}")
        await gateway.http.request(f"BREW{number}", "/v1/jobs")

    assert series() == before


async def test_live_connections_are_counted_while_they_last(gateway: Any, state: Callable[..., Any]) -> None:
    before = counted("tallyho_gateway_clients", kind="websocket"), counted(SECONDS, route="/v1/ws")
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe")
    during = counted("tallyho_gateway_clients", kind="websocket")
    received = counted("tallyho_gateway_frames_received_total")
    await watcher.answer_to("subscribe")
    await watcher.socket.close()
    await gateway.http.server.close()  # it waits for its handlers

    assert during == before[0] + 1
    assert counted("tallyho_gateway_frames_received_total") == received + 1
    assert counted("tallyho_gateway_clients", kind="websocket") == before[0]
    assert counted(SECONDS, route="/v1/ws") == before[1]
