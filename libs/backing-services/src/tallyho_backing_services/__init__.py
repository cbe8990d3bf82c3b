"""A RabbitMQ and a PostgreSQL for local use and tests, found or started."""

from tallyho_backing_services.accounts import Accounts, as_user
from tallyho_backing_services.errors import BackingServicesError, NotControllableError
from tallyho_backing_services.ladder import BackingServices, open_backing_services
from tallyho_backing_services.ports import free_port, hold_port, is_free, port_of
from tallyho_backing_services.servers import Server

__all__ = [
    "Accounts",
    "BackingServices",
    "BackingServicesError",
    "NotControllableError",
    "Server",
    "as_user",
    "free_port",
    "hold_port",
    "is_free",
    "open_backing_services",
    "port_of",
]
