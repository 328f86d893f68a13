"""How this process runs: addresses, places and keys, from the environment.

Who may do what stands in access.yaml (broker/config.py), never here.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from `PORTCULLIS_…`; Slack's own names are used for what Slack hands out."""

    model_config = SettingsConfigDict(env_prefix="PORTCULLIS_", extra="ignore", populate_by_name=True)

    policy: Path = Path("access.yaml")
    """The policy file: who may ask for what, who decides."""
    data_dir: Path = Path(".portcullis")
    """Keys, the SQLite file, recordings and audit checkpoints; made with mode 0700."""
    database_url: str = ""
    """Empty: a SQLite file in the data directory. Else `postgresql://…` (or `sqlite:///path`)."""
    redis_url: str = ""
    """Empty: the bus stays inside this process. Else `redis://…` for several brokers and gates."""
    seal_key: SecretStr = SecretStr("")
    """32 bytes in base 64 that seal stored credentials. Empty: a key file in the data directory."""

    http_host: str = "127.0.0.1"
    """Where pages and API listen, in plain HTTP: a reverse proxy with TLS stands in front."""
    http_port: int = 8080
    """The port of the same."""
    public_url: str = ""
    """The address by which browsers reach the broker. Empty: its own, over http."""

    slack_bot_token: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("SLACK_BOT_TOKEN", "slack_bot_token")
    )
    """The bot's token, `xoxb-…`. Empty: there is no chat."""
    slack_signing_secret: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("SLACK_SIGNING_SECRET", "slack_signing_secret")
    )
    """Proves that a delivery over HTTP is Slack's."""
    slack_app_token: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("SLACK_APP_TOKEN", "slack_app_token")
    )
    """For Socket Mode, `xapp-…`, in place of deliveries over HTTP."""
    slack_api_url: str = Field(
        default="https://slack.com/api/", validation_alias=AliasChoices("SLACK_API_URL", "slack_api_url")
    )
    """Another server of Slack's Web API, such as the sandbox."""

    oidc_issuer: str = ""
    """The identity provider, exactly as it names itself. Empty: only those that access.yaml names."""
    oidc_client_id: str = ""
    """As what the provider knows Portcullis."""
    oidc_client_secret: SecretStr = SecretStr("")
    """The secret that goes with it."""
    oidc_claim: str = "email"
    """The claim that says who somebody is: `email` (verified, against people's addresses) or one that holds
    their id, such as `preferred_username`."""

    log_level: str = "INFO"
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`. The log is JSON on standard error."""
    lease_seconds: float = 10.0
    """How long a gate may keep a session open without hearing from the broker."""
    sweep_seconds: float = 5.0
    """How often the database is searched for due work that a lost wake-up left behind."""
    checkpoint_seconds: float = 300.0
    """How often the head of the audit trail is signed."""

    @property
    def database(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'portcullis.db').absolute()}"
