"""One page's trace, through three processes, to a collector that speaks OTLP."""

import asyncio
import gzip
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from crawling import crawl
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sites import made_up_site
from tallyho.system import SystemOptions, running_system
from tallyho_backing_services import BackingServices


class Span(NamedTuple):
    """A step of a trace."""

    service: str
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    started: int
    ended: int
    job: str


class Collector:
    """Keeps the spans that it is sent, by trace."""

    def __init__(self) -> None:
        self.traces: defaultdict[bytes, list[Span]] = defaultdict(list)
        self.url = ""

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {one.key: one.value.string_value for one in group.resource.attributes}
            for span in (span for scope in group.scope_spans for span in scope.spans):
                job = next((one.value.string_value for one in span.attributes if one.key == "job"), "")
                times = span.start_time_unix_nano, span.end_time_unix_nano
                ids = span.trace_id, span.span_id, span.parent_span_id
                self.traces[span.trace_id].append(Span(resource["service.name"], span.name, *ids, *times, job))


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        yield collector
        server.shutdown()


STEPS = {
    ("crawler", "crawl page"),
    ("crawler", "visit page"),
    ("crawler", "save page"),
    ("job-tracker", "apply document.saved.v1"),
    ("job-tracker", "apply page.finished.v1"),
    ("job-tracker", "announce job.progress.v1"),
    ("ws-gateway", "write state"),
}


async def test_page_is_followed_from_its_claim_to_the_websocket(
    backing: BackingServices, amqp_url: str, collector: Collector
) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    assert amqp_url
    options = SystemOptions(allow_private_addresses=True, settings=settings)
    running = running_system(options, backing=backing)
    system = await asyncio.to_thread(running.__enter__)
    try:
        with made_up_site(12, latency=1.0) as site:  # it is still at work when the client listens
            states = await crawl(system.url, site)
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
    whole = [spans for spans in collector.traces.values() if {(span.service, span.name) for span in spans} >= STEPS]

    assert len(whole) >= 1  # of states that come at the same time, the newest is told only
    assert len(collector.traces) >= states[-1].total_children  # a page that is visited again begins another
    for spans in whole:
        by_name = {span.name: span for span in spans}
        root = by_name["crawl page"]
        assert root.parent == b""
        assert {span.parent for span in spans} <= {b"", *(span.id for span in spans)}
        assert {span.job for span in spans if span.job} == {str(states[-1].job_id)}
        announced = {span.id for span in spans if span.name == "announce job.progress.v1"}
        assert {span.parent for span in spans if span.name == "write state"} <= announced
        ends = [by_name[name].ended for name in ("crawl page", "save page", "apply page.finished.v1")]
        assert ends == sorted(ends)
        assert root.started <= by_name["visit page"].started
        assert by_name["write state"].ended > by_name["save page"].started
