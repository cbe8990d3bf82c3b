"""What the operator sets, from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr
from pydantic_settings import NoDecode
from tallyho_process.settings import ProcessSettings

from ws_gateway.keys import KeyRing

Origin = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]
Connections = Annotated[int, Field(ge=0, description="0 for no limit.")]


def _words(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _keys(text: str) -> str:
    KeyRing.parse(text)
    return text


def _keys_in(file: Path) -> Path:
    try:
        _keys(file.read_text())
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from None
    return file


class Settings(ProcessSettings):
    """The gateway's settings; each comes from the environment variable that is its alias."""

    amqp_url: str = Field(pattern=r"^amqps?://", validation_alias="AMQP_URL")
    host: str = Field(default="127.0.0.1", min_length=1, validation_alias="GATEWAY_HOST")
    port: int = Field(default=8080, ge=0, le=65535, validation_alias="GATEWAY_PORT", description="0 for any free one.")
    request_timeout: float = Field(default=10, gt=0, le=60, validation_alias="GATEWAY_REQUEST_TIMEOUT")
    allow_private_addresses: bool = Field(default=False, validation_alias="CRAWLER_ALLOW_PRIVATE_ADDRESSES")
    allowed_networks: tuple[IPvAnyNetwork, ...] = Field(default=(), validation_alias="CRAWLER_ALLOWED_NETWORKS")
    keys: Annotated[str, AfterValidator(_keys)] = Field(
        default="", validation_alias="GATEWAY_KEYS", description="name:read,write:sha256[:day], …"
    )
    keys_file: Annotated[Path, AfterValidator(_keys_in)] | None = Field(
        default=None, validation_alias="GATEWAY_KEYS_FILE", description="The same, in a file."
    )
    ticket_secret: SecretStr | None = Field(
        default=None, min_length=16, validation_alias="GATEWAY_TICKET_SECRET", description="The same for all replicas."
    )
    origins: Annotated[frozenset[Origin], NoDecode, BeforeValidator(_words)] = Field(
        default=frozenset(), validation_alias="GATEWAY_ORIGINS", description="Other sites whose pages are let in."
    )
    flush_ms: int = Field(
        default=50, ge=20, le=10_000, validation_alias="GATEWAY_FLUSH_MS", description="States go out at most so often."
    )
    drain_seconds: float = Field(
        default=8, ge=0, le=15, validation_alias="GATEWAY_DRAIN_SECONDS", description="At most, to close WebSockets in."
    )
    max_connections: Connections = Field(default=10_000, validation_alias="GATEWAY_MAX_CONNECTIONS")
    max_connections_per_address: Connections = Field(
        default=1_000, validation_alias="GATEWAY_MAX_CONNECTIONS_PER_ADDRESS"
    )
    max_connections_per_key: Connections = Field(default=5_000, validation_alias="GATEWAY_MAX_CONNECTIONS_PER_KEY")
    max_subscriptions: int = Field(default=128, ge=1, validation_alias="GATEWAY_MAX_SUBSCRIPTIONS")
    messages_per_second: float = Field(default=20, gt=0, validation_alias="GATEWAY_MESSAGES_PER_SECOND")

    @property
    def takes_private_seeds(self) -> bool:
        """Whether seeds may have private addresses: where networks are allowed, it is for the crawler to say which."""
        return self.allow_private_addresses or bool(self.allowed_networks)

    def key_ring(self) -> KeyRing:
        """The keys that are accepted."""
        return KeyRing.parse(self.keys + "\n" + (self.keys_file.read_text() if self.keys_file else ""))
