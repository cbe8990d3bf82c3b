"""What can go wrong between a client and its gateway. Each message is one line that can be shown to a person."""

# ruff: noqa: N818  # their names say what happened

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tallyho_contracts.jobs import JobState
from tallyho_contracts.replies import ErrorCode

UNAUTHORIZED, FORBIDDEN = 4401, 4403  # close codes of a WebSocket


class TallyhoError(Exception):
    """What was asked for could not be done. All errors of this library are TallyhoErrors."""


class GatewayUnreachable(TallyhoError):
    """The gateway, or something it needs, was away or failed for longer than the client waits."""


class NotAGateway(TallyhoError):
    """Something answered at this address that does not speak as a gateway does."""


class CrawlUnsuccessful(TallyhoError):
    """A crawl ended as failed or cancelled; `state` is its last state. Only `crawl(…, check=True)` raises it."""

    def __init__(self, state: JobState) -> None:
        super().__init__(f"job {state.job_id} {state.status}" + (f": {state.error}" if state.error else ""))
        self.state = state


@dataclass(frozen=True)
class FieldError:
    """A field of the request that is at fault, and why."""

    field: str
    message: str


class RequestRefused(TallyhoError):
    """The gateway refused the request. Carries its problem details (RFC 9457); `status` is none on a WebSocket."""

    def __init__(
        self, detail: str, *, code: str, status: int | None = None, errors: tuple[FieldError, ...] = ()
    ) -> None:
        said = "; ".join(f"{error.field}: {error.message}" for error in errors) or detail
        super().__init__(" ".join(said.split()))
        self.detail = detail
        self.code = code
        self.status = status
        self.errors = errors


class RequestInvalid(RequestRefused):
    """A field of the request is at fault: see `errors`."""


class NotFound(RequestRefused):
    """There is no job, or no document, with this id."""


class RequestConflict(RequestRefused):
    """The job's state does not allow this, or its idempotency key belongs to another request."""


class NotAuthenticated(RequestRefused):
    """The gateway asks for an API key, and got none or one that it does not know."""


class NotAllowed(RequestRefused):
    """The API key is not good for this, or the gateway serves only its own machine."""


KINDS: dict[str, type[RequestRefused]] = {
    ErrorCode.INVALID: RequestInvalid,
    ErrorCode.NOT_FOUND: NotFound,
    ErrorCode.CONFLICT: RequestConflict,
}
# Whatever code came with them: a proxy may ask for a key, too.
KINDS_BY_NUMBER: dict[int | None, type[RequestRefused]] = {
    HTTPStatus.UNAUTHORIZED: NotAuthenticated,
    HTTPStatus.FORBIDDEN: NotAllowed,
    UNAUTHORIZED: NotAuthenticated,
    FORBIDDEN: NotAllowed,
}
HINTS: dict[type[RequestRefused], str] = {NotAuthenticated: " (set TALLYHO_API_KEY, or pass api_key)"}


def refused_with(status: int, body: bytes) -> TallyhoError:
    """The error for an HTTP answer of 400 or above, also when its body is no problem document."""
    problem = json_object(body)
    if status == HTTPStatus.NOT_FOUND and "code" not in problem:
        return NotAGateway("there is a web server at this address, but it is no gateway")
    code = str(problem.get("code", ""))
    detail = str(problem.get("detail") or problem.get("title") or f"the gateway answered {status}")
    items = problem.get("errors")
    errors = tuple(map(_field_error, filter(_is_object, items))) if isinstance(items, list) else ()
    return _refusal(detail, code, number=status, status=status, errors=errors)


def refused_by_frame(payload: dict[str, Any]) -> RequestRefused:
    """The error for an `error` frame of the WebSocket."""
    code = str(payload.get("code", ""))
    errors = (_field_error(payload),) if payload.get("field") else ()
    return _refusal(str(payload.get("message", code)), code, errors=errors)


def refused_by_closing(code: int, reason: str) -> RequestRefused:
    """The error for a WebSocket that was closed for good."""
    return _refusal(reason, str(code), number=code)


def json_object(text: bytes | str) -> dict[str, Any]:
    """The JSON object in a text; an empty one when it holds none."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(
    detail: str,
    code: str,
    *,
    number: int | None = None,
    status: int | None = None,
    errors: tuple[FieldError, ...] = (),
) -> RequestRefused:
    kind = KINDS_BY_NUMBER.get(number) or KINDS.get(code, RequestRefused)
    return kind(detail + HINTS.get(kind, ""), code=code, status=status, errors=errors)


def _is_object(item: Any) -> bool:
    return isinstance(item, dict)


def _field_error(item: dict[str, Any]) -> FieldError:
    return FieldError(str(item.get("field", "")), str(item.get("message", "")))
