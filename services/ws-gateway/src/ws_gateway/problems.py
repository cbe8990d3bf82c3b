"""Every error of the HTTP API is a problem detail (RFC 9457) that says which field is at fault."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from tallyho_contracts.event import NO_NUL
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.requests import RequestRefused, RequestTimedOut

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000
MAX_FIELD_ERRORS = 50
# To name one fault, the library describes all of them, which takes seconds for a body full of nothing else.
MAX_FAULTS = 5_000
RETRY_AFTER_SECONDS = 2

_STATUS_OF_REFUSAL = {
    ErrorCode.INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.CONFLICT: HTTPStatus.CONFLICT,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class FieldError(BaseModel):
    """One field of a request and what is wrong with it."""

    model_config = ConfigDict(frozen=True)

    field: str
    message: str


class Problem(BaseModel):
    """A problem detail; `code` is for programs, `detail` for people."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: tuple[FieldError, ...] = ()


class ProblemError(Exception):
    """Raised by a handler; becomes the response."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = headers
        self.problem = Problem(title=status.phrase, status=status, detail=detail, code=code, errors=errors)


def invalid(*errors: FieldError) -> ProblemError:
    """The request can be read, but some of its fields can't be used."""
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors[:3])
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, ErrorCode.INVALID, detail, errors[:MAX_FIELD_ERRORS])


def invalid_fields(error: ValidationError) -> ProblemError:
    """Name the fields that pydantic refused."""
    return invalid(*field_errors(error))


def field_errors(error: ValidationError) -> tuple[FieldError, ...]:
    """Each fault with its field, as a client would write it: `seeds[0]`, `options.max_pages`."""
    if error.error_count() > MAX_FAULTS:
        return (FieldError(field="body", message=f"has more than {MAX_FAULTS:,} faults"),)
    faults = error.errors(include_url=False, include_input=False)
    places = {fault["loc"] for fault in faults}
    # A list whose items are all wrong counts as too short as well: that is no news.
    named = [fault for fault in faults if fault["type"] != "too_short" or (*fault["loc"], 0) not in places]
    return tuple(FieldError(field=field_path(one["loc"]), message=_in_words(one)) for one in named[:MAX_FIELD_ERRORS])


def field_path(loc: tuple[int | str, ...]) -> str:
    """`("seeds", 0)` as `seeds[0]`; the whole body is `body`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".")[:200] or "body"


def _in_words(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return "is not known here"
    if fault["type"] == "missing":
        return "is required"
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == NO_NUL:
        return "must not contain a NUL character"
    return fault["msg"].removeprefix("Value error, ")


def refusal(refused: Refused) -> ProblemError:
    """What the tracker answered, as the client's problem."""
    errors = (FieldError(field=refused.field, message=refused.message),) if refused.field else ()
    return ProblemError(_STATUS_OF_REFUSAL[refused.code], refused.code, refused.message, errors)


@web.middleware
async def answer_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn whatever a handler raised into a problem response."""
    try:
        return await handler(request)
    except ProblemError as error:
        return _response(error.problem, error.headers)
    except RequestRefused as error:
        return _response(refusal(error.refused).problem)
    except RequestTimedOut as error:
        log.warning("tracker did not answer method=%s path=%s error=%s", request.method, request.path, error)
        return _response(_unavailable().problem)
    except web.HTTPException as error:
        return _from_http(error) if error.status >= 400 else error
    except Exception:  # the edge: one bad request must not end the others
        log.exception("request failed method=%s path=%s", request.method, request.path)
        return _response(_internal().problem)


def _unavailable() -> ProblemError:
    detail = "The service behind this did not answer in time. With an Idempotency-Key it is safe to submit again."
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, ErrorCode.UNAVAILABLE, detail)


def _internal() -> ProblemError:
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, ErrorCode.INTERNAL, "The request failed; the log says why.")


def _from_http(error: web.HTTPException) -> web.StreamResponse:
    """aiohttp's own errors: no such path, wrong method, body too large, not a WebSocket."""
    status = HTTPStatus(error.status)
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = f"The body may have at most {MAX_BODY_BYTES:,} bytes."
        too_large = ProblemError(status, "body_too_large", detail, (FieldError(field="body", message=detail),))
        return _response(too_large.problem)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    detail = error.text if error.text and status is HTTPStatus.BAD_REQUEST else status.description
    response = _response(ProblemError(status, code, detail or status.phrase).problem)
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return response


def _response(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    body = problem.model_dump_json(exclude={"errors"} if not problem.errors else None).encode()
    return web.Response(status=problem.status, body=body, headers=headers, content_type="application/problem+json")
