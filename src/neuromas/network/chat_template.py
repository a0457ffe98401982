"""The text that a chat template puts before, between and after the system's and the user's words."""

import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from neuromas.errors import BackboneError

_NOW = re.compile(r"""strftime_now\(\s*("[^"]*"|'[^']*')\s*\)""")
SECONDS, MEMORY = 10.0, 1 << 30  # of one rendering: seconds, and bytes beyond what the process has
_SYSTEM, _USER = "\x02system\x03", "\x02user\x03"  # stand-ins that no chat template contains


def is_dated(tokenizer: Any) -> bool:
    """True where the chat template writes the day into prompts."""
    return "strftime_now" in str(getattr(tokenizer, "chat_template", None))


def around(tokenizer: Any, day: date) -> tuple[str, str, str]:
    """Before the system text, between it and the user's, and after; with thinking switched off where that can be done.

    A template without a system role gets the system text in the user's turn. Raises `BackboneError`, with what the
    template says, where it does not repeat both once and in order.
    """
    tried: list[str] = []
    if not isinstance(given := tokenizer.get_chat_template(), str):
        raise BackboneError(f"this tokenizer's chat template is {given!r} and no text; use prompt style 'plain'")
    template = _NOW.sub(lambda now: repr(day.strftime(now[1][1:-1])), given)
    folded = [{"role": "user", "content": f"{_SYSTEM}\n{_USER}"}]
    for chat in ([{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}], folded):
        try:
            with _bounded():
                text: str = tokenizer.apply_chat_template(
                    chat, tokenize=False, add_generation_prompt=True, enable_thinking=False, chat_template=template
                )
        except Exception as error:  # jinja raises its own errors for roles that a template refuses
            tried.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
            continue
        if text.count(_SYSTEM) == text.count(_USER) == 1 and text.index(_SYSTEM) < text.index(_USER):
            before, rest = text.split(_SYSTEM)
            between, after = rest.split(_USER)
            _warn(after)
            return before, between, after
        tried.append(f"{len(chat)} turns give {text.count(_SYSTEM)} system texts and {text.count(_USER)} user texts")
    raise BackboneError(
        "this tokenizer's chat template does not repeat the user's words; use prompt style 'plain' "
        f"({'; '.join(tried)})"
    )


@contextmanager
def _bounded() -> Iterator[None]:
    """Raises TimeoutError or MemoryError where a template takes more than a template needs.

    The time is bounded in the main thread, the memory on Linux; a template itself runs in jinja's sandbox.
    """

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it was not done after {SECONDS:g} s")

    with ExitStack() as after:
        if sys.platform.startswith("linux"):
            import resource

            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            most = [used + MEMORY, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
            resource.setrlimit(resource.RLIMIT_AS, (min(most), hard))
            after.callback(resource.setrlimit, resource.RLIMIT_AS, (soft, hard))
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
            after.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, stop))
            signal.setitimer(signal.ITIMER_REAL, SECONDS, 0.1)  # again, where something swallowed the error
            after.callback(signal.setitimer, signal.ITIMER_REAL, 0)
        yield


def _warn(after: str) -> None:
    if after.rfind("<think>") > after.rfind("</think>"):
        warnings.warn(
            "this model's chat template opens a thought that cannot be switched off: what nodes write, and the words "
            "that begin an answer, stand inside of it; use prompt style 'plain', or another model",
            stacklevel=2,
        )
