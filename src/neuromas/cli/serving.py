"""What `serve` and `watch` share: checks of the address, and how a system is asked."""

import importlib.util
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neuromas.errors import ConfigError
from neuromas.types import Question

if TYPE_CHECKING:
    from neuromas.cli.systems import Loaded
    from neuromas.serve.engine import Engine

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def need_server() -> None:
    """Raises ConfigError where the extra is not installed."""
    missing = [m for m in ("fastapi", "uvicorn", "prometheus_client") if importlib.util.find_spec(m) is None]
    if missing:
        raise ConfigError(f"serving needs {', '.join(missing)}; install with: pip install 'neuromas[serve]'")


def check_address(host: str, key: str | None) -> None:
    """Raises ConfigError where others could ask without a key."""
    if key is None and host not in LOOPBACK:
        raise ConfigError(
            f"host {host!r} can be reached from other machines; set NEUROMAS_API_KEY, or listen on 127.0.0.1"
        )
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            "the key holds blanks or characters beyond ASCII, which a header cannot carry; choose another"
        )


def engine_of(loaded: "Loaded", system: str, recipe: Path | None) -> "Engine":
    """The system as the server asks it: as `neuromas ask` does."""
    from neuromas.evaluate.baselines import BASELINES
    from neuromas.serve.engine import Engine

    if system == "logit":
        raise ConfigError("logit scores a task's options and writes nothing; serve `direct` or a run folder")
    pattern = Question("asked", "", "")
    if system not in BASELINES or recipe is not None:
        pattern = replace(loaded.task.questions("test")[0], id="asked", text="", answer="", metadata={})
    return Engine(loaded.system, loaded.backbone, pattern)


def show_address(bound: socket.socket, model: str, key: str | None) -> None:
    """Where the server is, once it can be reached."""
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    locked = "a key is needed" if key else "no key is needed"
    print(
        f"{model}: http://{shown}:{port}/v1 (OpenAI's API; {locked}). Ctrl-C ends it.",
        flush=True,
    )
