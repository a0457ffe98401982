"""Rollouts by vLLM: one engine, one base model, one LoRA for each node, in a process of its own.

It takes the place of `generate`: the same prompt token ids, decoding, end tokens and random streams in, completions
out. What vLLM computes is rounded otherwise than the trainer's own passes, so training compares the two
(`train/mismatch.py`). docs/vllm.md tells how it is installed and what was measured.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from neuromas.errors import ConfigError, EngineError
from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.generate import Completion
from neuromas.network.loading import locate
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding
from neuromas.network.vllm import child
from neuromas.network.vllm.handover import Handover
from neuromas.network.vllm.process import Child

PYTHON = "NEUROMAS_VLLM_PYTHON"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for


@dataclass(frozen=True)
class VllmSettings:
    """Settings of the engine, which are fixed when it starts."""

    adapters: int  # largest number of adapters that there are at any time
    at_once: int  # largest number of adapters in one batch
    rank: int  # rank of the largest adapter
    context: int | None = None  # most tokens of a prompt and its completion; None: the backbone's window
    rows: int = 256  # sequences computed together
    eager: bool | None = None  # without compiling and CUDA graphs; None: on a CPU
    gpu_share: float = 0.4  # of a GPU's memory, the base model's weights included
    cache_gib: int = 1  # on a CPU: memory for keys and values
    start_seconds: float = 600.0  # limit on loading
    call_seconds: float = 3600.0  # limit on one batch of completions


class VllmEngine:
    """Samples completions by vLLM. `close` it; forgetting it does so too."""

    def __init__(
        self, backbone: Backbone, settings: VllmSettings, *, command: Sequence[str] = (), model: str | None = None
    ) -> None:
        """command: what is started; by default vLLM in the Python that `python` finds. model: folder or hub id of the
        base model; by default where the backbone came from. Raises `EngineError` when it does not start."""
        if settings.rank > _RANKS[-1]:
            raise ConfigError(f"adapter.rank is {settings.rank}: vLLM takes at most {_RANKS[-1]}; lower it")
        command = command or (python(), str(Path(child.__file__).resolve()))
        self._backbone, self._settings = backbone, settings
        self._folder = tempfile.TemporaryDirectory(prefix="neuromas-engine-")
        self._adapters = Handover(Path(self._folder.name) / "adapters")
        self._child = Child(command, Path(self._folder.name) / "log.txt")
        on_cpu = backbone.device.type == "cpu"
        told = asdict(settings) | {
            "model": model or locate(backbone.name),
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "rank": next(r for r in _RANKS if r >= settings.rank),
            "context": settings.context or backbone.context_window,
            "eager": on_cpu if settings.eager is None else settings.eager,
            "threads": torch.get_num_threads(),
        }
        try:
            self.versions: dict[str, str] = self._child.ask("open", settings.start_seconds, **told)
        except BaseException:
            self.close()
            raise

    def generate(
        self,
        bank: AdapterBank,
        groups: Sequence[Group],
        keys: Sequence[int],
        max_tokens: int,
        how: Decoding | Sequence[Decoding],
    ) -> list[Completion]:
        """As `network.generate.generate`, without entropies, which vLLM does not tell.

        Adapters that have changed since the last call are handed over first. With top_p below 1 log-probabilities are
        those of the nucleus. Raises `EngineError` when the process dies or refuses.
        """
        used = list(dict.fromkeys(group.adapter for group in groups))
        adapters, replaced = self._adapters.hand(bank, used)
        if replaced:
            self._child.ask("forget", self._settings.call_seconds, ids=[old.number for old in replaced])
        of = [(group, own) for group in groups for own in group.own_ids]
        ways = [how] * len(of) if isinstance(how, Decoding) else how
        rows = [
            {"ids": [*group.prefix_ids, *own], "adapter": used.index(group.adapter), "seed": key, **asdict(way)}
            for (group, own), key, way in zip(of, keys, ways, strict=True)
        ]
        done = self._child.ask(
            "generate",
            self._settings.call_seconds,
            rows=rows,
            adapters=[[a.name, a.number, str(a.folder)] for a in adapters],
            max_tokens=max_tokens,
            stop=sorted(self._backbone.end_ids),
        )
        return [Completion(row["ids"], row["logprobs"], [], row["truncated"]) for row in done]

    @property
    def pid(self) -> int:
        """Of the process, e.g. to look at its memory."""
        return self._child.pid

    def close(self) -> None:
        """End the process and remove the adapters' files. May be called again."""
        self._child.close()
        self._folder.cleanup()


def python() -> str:
    """The Python that has vLLM: $NEUROMAS_VLLM_PYTHON, else this one."""
    if named := os.environ.get(PYTHON):
        found = shutil.which(named)
        if found is None:
            raise EngineError(f"{PYTHON} names {named!r}, which is no program; name the Python that has vLLM")
        return found
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(f"no vLLM in this environment; install it in one of its own and name its Python in {PYTHON}")
    return sys.executable
