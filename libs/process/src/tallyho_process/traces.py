"""Traces of single pages, from their claim to the WebSocket: off unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

A trace begins at the crawler, and only there is decided whether it is kept. It goes on in the `traceparent` of the
events that the page causes; an event of a page that is not kept has none, and costs nobody anything.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

ENDPOINT = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Of a crawl's pages one in a hundred; OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say otherwise.
KEPT = "0.01"
SEND_SECONDS = 2.5

PROPAGATOR = TraceContextTextMapPropagator()
# Does nothing until there is a provider.
tracer = trace.get_tracer("tallyho")


def is_on() -> bool:
    """Whether traces are to be sent; where not, it is not worth a step's while to describe itself."""
    return any(map(os.environ.get, ENDPOINT))


@asynccontextmanager
async def tracing(service: str) -> AsyncIterator[None]:
    """Send the traces of this process while the block runs, where an endpoint is set; at the end send what is left.

    Raises RuntimeError when the packages for it are not installed.
    """
    if not is_on():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise RuntimeError(f"{ENDPOINT[0]} is set, but tallyho-process[traces] is not installed") from error
    os.environ.setdefault("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    os.environ.setdefault("OTEL_TRACES_SAMPLER_ARG", KEPT)
    resource = Resource.create({"service.name": service, "service.instance.id": str(uuid4())})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        with suppress(TimeoutError):  # a collector that is away must not keep us
            await asyncio.wait_for(asyncio.to_thread(provider.shutdown), SEND_SECONDS)


def traceparent_of(span: Span) -> str | None:
    """What an event carries that this span caused; none when its trace is not kept."""
    context = span.get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    return carrier["traceparent"]


def caused_by(traceparent: str) -> Context:
    """The context of what an event with this `traceparent` causes."""
    return PROPAGATOR.extract({"traceparent": traceparent})


def record(name: str, traceparent: str, started_ns: int, **attributes: str) -> None:
    """Add a step that ends now to the trace of an event; times are nanoseconds since the epoch."""
    context = caused_by(traceparent)
    tracer.start_span(name, context, SpanKind.CONSUMER, attributes=attributes, start_time=started_ns).end()
