"""Every causal language model of transformers, tiny and random: is the library right on it, and on which path?

`python tests/sweep.py OUT.jsonl [NAME …]` runs each in a process of its own and appends a line for each; what OUT
holds already is not run again. A verdict is `packed` or `plain` (exact on that path), `refused` (a NeuromasError),
`wrong`, `traceback`, `unfinished`, or `not tiny`, where nobody has written a small config yet.
`python tests/sweep.py --table OUT.jsonl` prints what docs/results/architectures.md holds.
"""

import copy
import json
import multiprocessing
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from architectures import VARIANTS, make
from exactness import compare, groups_of
from helpers import byte_tokenizer, make_network
from neuromas.errors import NeuromasError
from neuromas.network.backbone import Backbone
from neuromas.network.loading import quoting

SECONDS, MOST = 300, 30_000_000
FORK = multiprocessing.get_context("fork")  # the libraries are imported once
warnings.simplefilter("ignore")
PREFIXES = (70, 5, 70)
LONG = groups_of(PREFIXES, ((3, 0, 30), (1, 60), (0, 7)))  # windows are 48
NAMES = [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *VARIANTS]


def size_of(name: str) -> int:
    """Parameters of the model, which is not made."""
    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(make(name)).parameters())


def build(name: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make(name), attn_implementation="eager").eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)
    return model.requires_grad_(False)


def verdict(name: str, dtype: str = "float32") -> dict[str, Any]:
    """Differences from the plain model: nats of log-probabilities, greedy tokens, and relative norm of gradients."""
    try:
        size = size_of(name)
    except Exception as error:
        return {"verdict": "not built", "why": f"{type(error).__name__}: {error}"[:300]}
    if size > MOST:
        return {"verdict": "not tiny", "why": f"{size:,} parameters"}
    plain = build(name)
    model = copy.deepcopy(plain).to(getattr(torch, dtype))
    try:
        with quoting(name, ""):
            backbone = Backbone(name, model, byte_tokenizer(), "compact")
        network = make_network("2", backbone)
    except NeuromasError as error:
        return {"verdict": "refused", "why": str(error)}
    plain.set_attn_implementation("eager")
    try:
        short = backbone.context_window < sum(PREFIXES)  # sparse attention is exact up to the size of its choice
        found = compare(network, plain, groups_of((20, 5, 20), ((3, 0, 9), (1, 30), (0, 7))) if short else LONG)
    except NeuromasError as error:
        return {"verdict": "refused", "why": str(error)}
    proof = backbone.proof
    chaos = 100 * proof.rounding  # a model that amplifies rounding so much cannot be told from itself any better
    right = found.within(max(1e-3, chaos), max(2e-3, chaos))
    if dtype != "float32":
        right = max(found.sampled, found.replayed) < max(1.0, 10 * proof.rounding)
    return {
        "verdict": proof.path if right else "wrong", **asdict(found), "rounding": proof.rounding,
        "caches": proof.caches, "shares": proof.shares,
        "why": proof.why, "targets": sorted({key.rpartition(".")[2] for key in network.adapters.shapes}),
    }  # fmt: skip


def record_of(name: str, dtype: str) -> dict[str, Any]:
    """The verdict, from a process of its own."""
    here, there = FORK.Pipe(duplex=False)

    def work() -> None:
        try:
            there.send(verdict(name, dtype))
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            there.send({"verdict": "traceback", "why": " ".join(text.split())[:600]})

    process = FORK.Process(target=work)
    process.start()
    found = here.recv() if here.poll(SECONDS) else {"verdict": "unfinished", "why": f"over {SECONDS} s"}
    process.kill()
    process.join()
    return found


def table(records: list[dict[str, Any]]) -> str:
    """The records as a page of the docs."""
    count = Counter(record["verdict"] for record in records)
    rows = [
        "| model type or variant | verdict | sampled | replayed | gradient | adapters; reason |",
        "|---|---|---|---|---|---|",
    ]
    for r in sorted(records, key=lambda r: r["name"]):
        figures = [f"{r[key]:.0e}" if key in r else "" for key in ("sampled", "replayed", "gradient")]
        why = " ".join(r.get("why", "").replace("|", "/").split())[:160]
        told = "; ".join(filter(None, [", ".join(r.get("targets", [])), why]))
        rows.append(f"| {r['name']} | {r['verdict']} | {' | '.join(figures)} | {told} |")
    total = ", ".join(f"{verdict} {n}" for verdict, n in count.most_common())
    return f"{len(records)} configurations: {total}.\n\n" + "\n".join(rows) + "\n"


def main() -> None:
    if sys.argv[1] == "--table":
        print(table([json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]))
        return
    out, names = Path(sys.argv[1]), sys.argv[2:] or NAMES
    dtype = "bfloat16" if "bf16" in out.name else "float32"
    done = {json.loads(line)["name"] for line in out.read_text().splitlines()} if out.exists() else set[str]()
    for name in names:
        if name not in done:
            start = time.time()
            record = {"name": name, **record_of(name, dtype), "seconds": round(time.time() - start, 1)}
            with out.open("a") as file:
                file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
