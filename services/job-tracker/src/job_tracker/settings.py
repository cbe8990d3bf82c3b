"""What an operator sets, from the environment."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from tallyho_process.settings import ProcessSettings


class Settings(ProcessSettings):
    """The tracker's settings; every name is an environment variable."""

    model_config = SettingsConfigDict(env_prefix="TRACKER_")

    amqp_url: str = Field(validation_alias="AMQP_URL")
    database_url: str = Field(validation_alias="DATABASE_URL")
    silence_seconds: float = Field(
        default=120.0, ge=1, description="A live job without any change for longer is reported."
    )
    retention_days: float = Field(
        default=0.0, ge=0, le=36_500, description="Delete jobs so long after their end; 0 for never."
    )
    prefetch: int = Field(default=300, ge=1, le=65_535, description="Messages that the broker may send ahead.")
    batch_events: int = Field(default=2_000, ge=1, description="Events that are applied in one transaction.")
