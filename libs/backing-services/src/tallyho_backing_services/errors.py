"""What keeps the backing services from serving; the text of each error is for the person who started them."""


class BackingServicesError(Exception):
    """A RabbitMQ or a PostgreSQL could not be had: one line that says what to do about it."""


class ServerFailedError(BackingServicesError):
    """A server or an installation failed: one line, then the last lines of its log."""


class NotControllableError(BackingServicesError):
    """The server was given by its address: it is not ours to start or stop."""
