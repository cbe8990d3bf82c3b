"""A place among the open connections for an answer that is streamed over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from aiohttp import web

from ws_gateway.access import key_name
from ws_gateway.limits import NoPlaceError, Places
from ws_gateway.problems import ProblemError

PLACES = web.AppKey("places", Places)


@contextmanager
def hold_place(request: web.Request) -> Iterator[None]:
    """Hold a place meanwhile. Raises ProblemError: there is none."""
    places, place = request.app[PLACES], (request.remote or "", key_name(request))
    try:
        places.take(*place)
    except NoPlaceError:
        detail = "There are too many connections; try again later."
        raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, "too_many_connections", detail) from None
    try:
        yield
    finally:
        places.give_back(*place)
