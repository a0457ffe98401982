"""Runs one item in a process of its own, so that its peak memory is its own and it finds its own libraries."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Item:
    """One thing that is measured."""

    module: str  # in benchmarks/items/
    variant: str = ""
    environment: str = ""  # virtual environment in the peers' folder; empty: the one that runs this
    note: str = ""


ITEMS = {
    "floor": Item("floor", note="matrix products that cannot be avoided, at the fastest rate seen"),
    "neuromas": Item("ours"),
    "neuromas + vllm": Item("ours", "vllm", note="vLLM samples, this project updates"),
    "peft nodes": Item("peft", "nodes", note="one adapter after the other"),
    "peft trimmed": Item("peft", "trimmed", note="the same with logits_to_keep"),
    "peft mixed": Item("peft", "mixed", note="adapter_names; trains in eval mode"),
    "comlrl": Item("comlrl", environment="comlrl", note="REINFORCE trainer, one agent for each node of a layer"),
    "trl": Item("trl", environment="trl", note="GRPO trainer: one policy, as many sequences"),
    "vllm": Item("vllm", "eager", environment="vllm", note="rollouts only"),
    "vllm compiled": Item("vllm", "compiled", environment="vllm", note="rollouts only"),
}


def peers_folder() -> Path:
    """The folder of the peers' environments, made by install_peers.sh: $NEUROMAS_PEERS, else benchmarks/.venv."""
    return Path(os.environ.get("NEUROMAS_PEERS") or ROOT / "benchmarks" / ".venv")


def interpreter(item: Item) -> str | None:
    """The Python that has the item's libraries; None where its environment is missing."""
    if not item.environment:
        return sys.executable
    python = peers_folder() / item.environment / "bin" / "python"
    return str(python) if python.exists() else None


def environment(threads: int) -> dict[str, str]:
    """Environment variables of an item: no network, this checkout's sources, and a number of threads."""
    variables = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
    vllm = peers_folder() / "vllm" / "bin" / "python"
    return {"NEUROMAS_VLLM_PYTHON": str(vllm)} | variables if vllm.exists() else variables


def run(command: list[str], threads: int) -> dict[str, Any]:
    """The last line of JSON that `command` prints, or {"skipped": the last line of its error}."""
    with tempfile.TemporaryDirectory() as scratch:  # trainers leave files in the folder they run in
        done = subprocess.run(command, capture_output=True, text=True, env=environment(threads), cwd=scratch)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    errors = done.stderr.strip().splitlines() or ["it printed nothing"]
    return {"skipped": f"failed with exit status {done.returncode}: {errors[-1]}"}


def measure(item: Item, work: Path, threads: int, extra: list[str]) -> dict[str, Any]:
    """Measurements of `item` on the workload in the file `work`, or {"skipped": reason}."""
    python = interpreter(item)
    if python is None:
        return {"skipped": f"no environment {item.environment!r}; make it with benchmarks/install_peers.sh"}
    command = [python, "-m", f"benchmarks.items.{item.module}", str(work), "--threads", str(threads), *extra]
    return run([*command, "--variant", item.variant] if item.variant else command, threads)


def write_workload(which: str, dtype: str, path: Path, threads: int) -> None:
    """Render a workload's prompts into `path`, in a process of its own. which: its name, or a `Spec` as JSON."""
    command = [sys.executable, "-m", "benchmarks.workloads", which, dtype, str(path)]
    subprocess.run(command, check=True, env=environment(threads), cwd=ROOT)
