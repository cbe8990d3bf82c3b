"""What every live connection works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

from aiohttp import web

from ws_gateway.crowds import Crowds
from ws_gateway.documents import Documents
from ws_gateway.frames import Stream
from ws_gateway.http_api import Ask
from ws_gateway.hub import Hub
from ws_gateway.limits import Limits, Places
from ws_gateway.logs import LogBook
from ws_gateway.phases import Phases

# Returns once the states or the log of a job (None: of every job), which somebody follows already, come in here.
Hear = Callable[[Stream, UUID | None], Awaitable[None]]


@dataclass(frozen=True)
class Deps:
    """The states, documents and logs that go out, the way to the tracker, and what is allowed."""

    hub: Hub
    logs: LogBook
    documents: Documents
    ask: Ask
    hear: Hear
    limits: Limits
    places: Places
    flush_seconds: float
    crowds: Crowds
    phases: Phases
    # What else is to be told that the gateway stops.
    on_stop: set[Callable[[], None]] = field(default_factory=set)


DEPS = web.AppKey("deps", Deps)
