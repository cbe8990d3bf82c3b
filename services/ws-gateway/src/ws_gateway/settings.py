"""What the operator sets, from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """The gateway's settings; each comes from the environment variable that is its alias."""

    amqp_url: str = Field(pattern=r"^amqps?://", validation_alias="AMQP_URL")
    host: str = Field(default="127.0.0.1", min_length=1, validation_alias="GATEWAY_HOST")
    port: int = Field(default=8080, ge=0, le=65535, validation_alias="GATEWAY_PORT", description="0 for any free one.")
    request_timeout: float = Field(default=10, gt=0, le=60, validation_alias="GATEWAY_REQUEST_TIMEOUT")
    allow_private_addresses: bool = Field(default=False, validation_alias="CRAWLER_ALLOW_PRIVATE_ADDRESSES")
