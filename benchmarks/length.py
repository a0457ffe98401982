"""Measures a step with long prompts and long messages beside PEFT and transformers: python -m benchmarks.length --help

Two nodes side by side, eight rollouts of one question each, on a random Llama of six layers that has the width, heads
and vocabulary of SmolLM2-135M. Prompts are random ids of exactly the length asked for, and so are completions. PEFT
takes one node after the other and asks for logits at completion positions only ("peft trimmed"), four rows at once in
the update. Every item runs in a process of its own, in turn; one JSON line a measurement, appended to --out.
"""

import argparse
import random
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks import launch, report
from benchmarks.work import NodeWork, Work
from benchmarks.workloads import Spec
from neuromas.network.builtin import TINY_FOLDER

ITEMS = ("floor", "neuromas", "peft trimmed")
SHAPE = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
POINTS = ("256/32", "256/256", "256/512", "256/1024", "1024/32", "4096/32")


def save_model(folder: Path, layers: int) -> None:
    """A random model in `folder`, with the tokenizer of the embedded backbone, which no item uses."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPE, vocab_size=49152, num_hidden_layers=layers, max_position_embeddings=8192, tie_word_embeddings=True
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY_FOLDER).save_pretrained(folder)


def work_of(point: str, folder: Path, dtype: str) -> Work:
    """The work of a point "prompt tokens/message tokens"."""
    prompt, tokens = map(int, point.split("/"))
    spec = Spec(point, "2", backbone=str(folder), layer_only=True, questions=1, tokens=tokens)
    ids = random.Random(0)
    drawn = lambda: [ids.randrange(256) for _ in range(prompt)]
    nodes = [NodeWork(f"1.{n}", 1, tokens, [drawn()], [[] for _ in range(spec.rollouts)]) for n in (1, 2)]
    made = Work(
        point, str(folder), str(folder), dtype, "layer", spec.rollouts, spec.rank, list(spec.targets), asdict(spec)
    )
    return replace(made, nodes=nodes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.length", description=__doc__)
    parser.add_argument("points", nargs="*", default=POINTS, help="prompt/message tokens")
    parser.add_argument("--items", nargs="+", default=list(ITEMS), choices=list(launch.ITEMS))
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=1, help="repeats that are run first and not reported")
    parser.add_argument(
        "--micro-tokens", type=int, default=4096, help="train.micro_tokens; 4096 is the default of runs"
    )
    parser.add_argument("--peer-rows", type=int, default=4, help="rows that PEFT updates at once")
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file too")
    args = parser.parse_args()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        save_model(Path(scratch) / "model", args.layers)
        for point in args.points:
            path = Path(scratch) / "work.json"
            work_of(point, Path(scratch) / "model", args.dtype).save(path)
            lines += point_lines(point, path, args)
    report.table(lines)


def point_lines(point: str, path: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every item at one point; each line is printed as soon as it is known."""
    extra = ["--repeats", str(args.repeats), "--warmup", str(args.warmup)]
    extra += ["--micro-tokens", str(args.micro_tokens), "--rows", str(args.peer_rows)]
    lines: list[dict[str, Any]] = []
    for name in args.items:
        about = {"item": name, "workload": point, "dtype": args.dtype, "threads": args.threads, "layers": args.layers}
        figures = launch.measure(launch.ITEMS[name], path, args.threads, extra)
        line = about | figures | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        lines.append(report.with_ratios(line, lines))
        report.emit(lines[-1], args.out)
    return lines


if __name__ == "__main__":
    main()
