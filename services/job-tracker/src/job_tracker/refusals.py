"""How a request is refused."""

from typing import NoReturn

from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.requests import RequestRefused


def refuse(code: ErrorCode, message: str, field: str | None = None) -> NoReturn:
    """Answer a request with why it can't be carried out."""
    raise RequestRefused(Refused(code=code, message=message, field=field))
