"""A child that speaks the protocol of `network/vllm/child.py` without vLLM: python tests/fake_engine.py MODE

own      samples with this library's own `generate`, from the files it is given, as vLLM would with its own code
shifted  the same, and says that every token was twice as likely as it was
echo     needs no torch: every completion is the number of its adapter, `max_tokens` times
die      echo, and is killed by a signal at the first `generate`
hang     echo, and never answers a `generate`
refuse   echo, and answers `generate` with an error

With a second argument, a file, it appends every request to that.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

MODE = sys.argv[1]


class Echo:
    def open(self, request: dict[str, Any]) -> dict[str, str]:
        return {"vllm": "none"}

    def generate(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        if MODE == "die":
            print("out of luck", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if MODE == "hang":
            time.sleep(600)
        if MODE == "refuse":
            raise RuntimeError("no such adapter")
        n = request["max_tokens"]
        numbers = [request["adapters"][row["adapter"]][1] for row in request["rows"]]
        return [{"ids": [k] * n, "logprobs": [0.0] * n, "truncated": True} for k in numbers]

    def forget(self, request: dict[str, Any]) -> int:
        return len(request["ids"])


class Own(Echo):
    """Rows are computed one group each, since the protocol knows no groups."""

    def open(self, request: dict[str, Any]) -> dict[str, str]:
        from neuromas.network.backbone import Backbone

        self.backbone = Backbone.load(request["model"], device="cpu", dtype=request["dtype"])
        self.adapters: dict[int, Any] = {}
        return {"vllm": "none"}

    def forget(self, request: dict[str, Any]) -> int:
        return sum(self.adapters.pop(number, None) is not None for number in request["ids"])

    def generate(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        from neuromas.network.generate import generate
        from neuromas.network.packed import Group
        from neuromas.network.sampling import Decoding

        self.backbone.end_ids = frozenset(request["stop"])
        names = ("greedy", "temperature", "top_p")
        out: list[Any] = [None] * len(request["rows"])
        for place, (name, number, folder) in enumerate(request["adapters"]):
            if number not in self.adapters:  # vLLM, too, reads an adapter once
                self.adapters[number] = self._bank(name, Path(folder))
            mine = [(i, row) for i, row in enumerate(request["rows"]) if row["adapter"] == place]
            groups = [Group(0, row["ids"], [[]]) for _, row in mine]
            ways = [Decoding(**{name: row[name] for name in names}) for _, row in mine]
            keys = [row["seed"] for _, row in mine]
            done = generate(self.backbone, self.adapters[number], groups, keys, request["max_tokens"], ways)
            for (i, _), one in zip(mine, done, strict=True):
                shift = 0.6931 if MODE == "shifted" else 0.0
                out[i] = {"ids": one.ids, "logprobs": [x + shift for x in one.logprobs], "truncated": one.truncated}
        return out

    def _bank(self, name: str, folder: Path) -> Any:
        from safetensors.torch import load_file

        from neuromas.network.adapters import AdapterBank

        config = json.loads((folder / "adapter_config.json").read_text())
        shapes = self.backbone.adapter_shapes(config["target_modules"])
        bank = AdapterBank({name: name}, shapes, rank=config["r"], alpha=config["lora_alpha"], seed=0)
        bank.import_peft(name, load_file(folder / "adapter_model.safetensors"), config)
        return bank


def main() -> None:
    engine = Own() if MODE in ("own", "shifted") else Echo()
    for line in sys.stdin:
        request = json.loads(line)
        if len(sys.argv) > 2:
            with Path(sys.argv[2]).open("a") as file:
                file.write(line)
        if request["do"] == "close":
            return
        try:
            answer: dict[str, Any] = {"ok": getattr(engine, request["do"])(request)}
        except RuntimeError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
