"""What an operator sets, from the environment."""

from pydantic import Field, IPvAnyNetwork
from pydantic_settings import SettingsConfigDict
from tallyho_process.settings import ProcessSettings


class Settings(ProcessSettings):
    """The crawler's settings; the names, in capitals and with `CRAWLER_` before them, are environment variables."""

    model_config = SettingsConfigDict(env_prefix="CRAWLER_")

    amqp_url: str = Field(validation_alias="AMQP_URL")
    database_url: str = Field(validation_alias="DATABASE_URL")
    allow_private_addresses: bool = Field(default=False, description="Crawl addresses that are not public, too.")
    allowed_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description='Crawl these, too, though not public: `["10.1.0.0/16", "fd00:1::/64"]`.'
    )
    allow_invalid_tls: bool = Field(default=False, description="Crawl hosts whose certificate is not valid, too.")
    concurrency: int = Field(default=16, ge=1, le=512, description="Pages fetched at once by this process.")
    host_concurrency: int = Field(default=8, ge=1, le=64, description="Pages fetched at once from one origin, by all.")
    host_delay: float = Field(default=0.0, ge=0, le=3600, description="Seconds between requests to one origin.")
    lease_seconds: float = Field(default=5.0, ge=1, description="After this long without a sign a worker is dead.")
    contact: str = Field(
        default="https://github.com/tallyho/tallyho",
        pattern=r"^[!-'*-~]+$",
        description="Where people complain whose sites are crawled: the address of a page, or of mail.",
    )
    user_agent: str = Field(
        default="Tallyho/0.1 (+{contact})",
        pattern=r"^[ -~]+$",
        description="With {contact} in it; robots.txt addresses what comes before the slash.",
    )
    fetch_timeout: float = Field(default=30.0, gt=0, description="Seconds for one whole fetch.")
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1024, description="Of a page, once decompressed.")
    render_concurrency: int = Field(default=4, ge=1, le=64, description="Pages rendered at once by this process.")
    render_timeout: float = Field(default=30.0, gt=0, description="Seconds for the rendering of one page.")
    chromium: str | None = Field(default=None, description="The browser's program; Playwright's own if not given.")
    max_attempts: int = Field(default=3, ge=1, le=20, description="Fetches of a page that fails for now.")

    @property
    def user_agent_header(self) -> str:
        """The value of the header User-Agent."""
        return self.user_agent.replace("{contact}", self.contact)
