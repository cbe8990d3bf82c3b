"""What keeps the backing services from serving; the text of each error is for the person who started them."""

from collections.abc import Sequence


class BackingServicesError(Exception):
    """A RabbitMQ or a PostgreSQL could not be had: one line that says what to do about it."""


class ServerFailedError(BackingServicesError):
    """A server or an installation failed; `what` is one line, the text also has the last lines of its log."""

    def __init__(self, what: str, last_lines: Sequence[str]) -> None:
        """Keep both."""
        super().__init__("\n  ".join([f"{what}, its last lines:", *last_lines]) if last_lines else what)
        self.what = what
        self.last_line = last_lines[-1].strip() if last_lines else ""


class UnavailableError(BackingServicesError):
    """A rung of the ladder is not to be had on this machine."""


class NotControllableError(BackingServicesError):
    """The server was given by its address: it is not ours to start or stop."""
