"""How a request is refused."""

from enum import StrEnum

from pydantic import Field

from tallyho_contracts.event import Message, Text


class ErrorCode(StrEnum):
    """Why a request was refused; everything else is internal."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Refused(Message):
    """`request.refused.v1`: the reply to any request that was not carried out."""

    code: ErrorCode
    message: Text
    field: Text | None = Field(default=None, description="The field of the request that is at fault.")
