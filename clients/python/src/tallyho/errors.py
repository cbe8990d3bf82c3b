"""What can go wrong between a client and its gateway. Each message is one line that can be shown to a person."""

# ruff: noqa: N818  # their names say what happened

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tallyho_contracts.replies import ErrorCode


class TallyhoError(Exception):
    """The gateway could not do what it was asked."""


class GatewayUnreachable(TallyhoError):
    """The gateway, or something it needs, was away for longer than the client waits."""


class NotAGateway(TallyhoError):
    """Something answered at this address that does not speak as a gateway does."""


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


class JobNotFound(RequestRefused):
    """There is no job with this id."""


class RequestConflict(RequestRefused):
    """The job's state does not allow this, or its idempotency key belongs to another request."""


KINDS: dict[str, type[RequestRefused]] = {
    ErrorCode.INVALID: RequestInvalid,
    ErrorCode.NOT_FOUND: JobNotFound,
    ErrorCode.CONFLICT: RequestConflict,
}


def refused_with(status: int, body: bytes) -> TallyhoError:
    """The error for an HTTP answer of 400 or above, also when its body is no problem document."""
    try:
        problem: Any = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    if status == HTTPStatus.NOT_FOUND and "code" not in problem:
        return NotAGateway("there is a web server at this address, but it is no gateway")
    code = str(problem.get("code", ""))
    detail = str(problem.get("detail") or problem.get("title") or f"the gateway answered {status}")
    items = problem.get("errors")
    errors = tuple(map(_field_error, filter(_is_object, items))) if isinstance(items, list) else ()
    return KINDS.get(code, RequestRefused)(detail, code=code, status=status, errors=errors)


def refused_by_frame(payload: dict[str, Any]) -> RequestRefused:
    """The error for an `error` frame of the WebSocket."""
    code = str(payload.get("code", ""))
    errors = (_field_error(payload),) if payload.get("field") else ()
    return KINDS.get(code, RequestRefused)(str(payload.get("message", code)), code=code, errors=errors)


def _is_object(item: Any) -> bool:
    return isinstance(item, dict)


def _field_error(item: dict[str, Any]) -> FieldError:
    return FieldError(str(item.get("field", "")), str(item.get("message", "")))
