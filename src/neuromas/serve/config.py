"""Settings of `neuromas serve` and `neuromas watch`; the command line takes its options and their help from here."""

import os
from importlib.util import find_spec
from typing import Any

from pydantic import Field

from neuromas.errors import ConfigError
from neuromas.recipe import CommandOptions

LOOPBACK = ("localhost", "127.0.0.1", "::1")
BODY_BYTES = 1 << 20


class ListenConfig(CommandOptions):
    """The address of a server, and the key that clients need. Construction raises ConfigError for invalid settings."""

    host: str = Field(
        default="127.0.0.1", description="Where to listen; other than a loopback address only with a key."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 takes any that is free.")
    connections: int = Field(default=512, ge=1, description="Connections at a time; fewer where files are few.")
    api_key: str | None = Field(
        default=None,
        repr=False,
        description="What clients must send as bearer token. Better in NEUROMAS_API_KEY, which others cannot see.",
    )

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if self.key is None and self.host not in LOOPBACK:
            raise ConfigError(
                f"host {self.host!r} can be reached from other machines; set NEUROMAS_API_KEY, or listen on 127.0.0.1"
            )
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise ConfigError(
                "the key holds blanks or characters beyond ASCII, which a header cannot carry; choose another"
            )

    @property
    def key(self) -> str | None:
        """The key in force: `api_key`, or the environment's; None if anyone on this machine may ask."""
        return self.api_key or os.environ.get("NEUROMAS_API_KEY") or None


class ServeConfig(ListenConfig):
    """Settings of a server that answers."""

    name: str | None = Field(default=None, description="The model's id; by default the run folder's name.")
    queue: int = Field(default=256, ge=1, description="Questions that may wait; more are refused with 429.")
    batch_rows: int | None = Field(
        default=None, ge=1, description="Rows of one batch, about; by default the run's own."
    )
    seconds: float = Field(default=120.0, gt=0, description="Most time from a request to the end of its answer.")
    body_bytes: int = Field(default=BODY_BYTES, ge=1, description="Largest body of a request, in bytes.")


class WatchConfig(ListenConfig):
    """Settings of a server that only shows a run's page."""

    port: int = Field(default=8001, ge=0, le=65535, description="TCP port; 0 takes any that is free.")
    browser: bool = Field(default=True, description="Open the page in a browser.")


def require_packages() -> None:
    """Raises ConfigError if the extra `serve` is not installed."""
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"serving needs {', '.join(missing)}; install with: pip install -e '.[serve]'")
