"""The process that holds vLLM. Run by the Python that has vLLM, which need not have this library: it imports nothing
of it and may be another version of Python, with another torch.

A request is a line of JSON on stdin, its answer a line of JSON on stdout: `{"ok": …}` or `{"error": text}`. What vLLM
and its libraries print goes to stderr. The process ends with a request `close`, or when stdin does, i.e. when its
parent is gone. `Vllm` below says what each request holds.
"""

import json
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any


def settle(settings: Mapping[str, Any]) -> None:
    """Set the environment that vLLM reads when it is imported. A value that is set already stays."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process: it dies with it
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings["cache_gib"]))  # only the build for CPUs reads it
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:  # as many threads as the parent may use, on its cores
        chosen = cores[: settings["threads"]]
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, chosen)))


class Vllm:
    """vLLM behind three requests: `open`, `generate`, `forget`."""

    def __init__(self) -> None:
        self._engine: Any = None

    def open(self, request: Mapping[str, Any]) -> dict[str, str]:
        """Load the model, with the fields of `network.vllm.engine.VllmSettings`; returns versions."""
        settle(request)
        vllm: Any = import_module("vllm")  # after `settle`; by name, since whoever checks this file need not have it
        self._engine = vllm.LLM(
            model=request["model"],
            dtype=request["dtype"],
            skip_tokenizer_init=True,  # token ids in, token ids out
            generation_config="vllm",  # not the model folder's: every request says all
            enable_lora=True,
            max_loras=request["at_once"],
            max_cpu_loras=request["adapters"],
            max_lora_rank=request["rank"],
            max_model_len=request["context"],
            max_num_seqs=request["rows"],
            gpu_memory_utilization=request["gpu_share"],
            enforce_eager=request["eager"],
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",  # of the distribution that is sampled: after the temperature
            seed=0,
        )
        return {"vllm": vllm.__version__, "torch": import_module("torch").__version__}

    def generate(self, request: Mapping[str, Any]) -> list[dict[str, object]]:
        """A completion of each row: ids, log-probabilities, and whether the limit ended it.

        adapters: [name, id, folder] of each. A row: `ids` of its prompt, number of its `adapter`, `seed`, `greedy`,
        `temperature`, `top_p`. Tokens of `stop` end a row and are part of it.
        """
        how: Any = import_module("vllm").SamplingParams
        lora: Any = import_module("vllm.lora.request").LoRARequest
        adapters = [lora(name, number, folder) for name, number, folder in request["adapters"]]
        rows = request["rows"]
        ways = [
            how(
                max_tokens=request["max_tokens"],
                temperature=0.0 if row["greedy"] else row["temperature"],
                top_p=1.0 if row["greedy"] else row["top_p"],
                seed=row["seed"] >> 1,  # 63 bits of it: torch's generators take a signed number
                stop_token_ids=request["stop"],
                ignore_eos=True,  # what ends a row is in `stop`, and nothing else
                logprobs=0,  # of the sampled token alone
                detokenize=False,
            )
            for row in rows
        ]
        done = self._engine.generate(
            [{"prompt_token_ids": row["ids"]} for row in rows],
            ways,
            lora_request=[adapters[row["adapter"]] for row in rows],
            use_tqdm=False,
        )
        return [_completion(out.outputs[0]) for out in done]

    def forget(self, request: Mapping[str, Any]) -> int:
        """Drop adapters by their ids; returns how many there were."""
        return sum(bool(self._engine.llm_engine.remove_lora(number)) for number in request["ids"])


def _completion(out: Any) -> dict[str, object]:
    ids = list(out.token_ids)
    logprobs = [at[token].logprob for token, at in zip(ids, out.logprobs, strict=True)]
    return {"ids": ids, "logprobs": logprobs, "truncated": out.finish_reason == "length"}


def serve(requests: Any, answers: Any) -> None:
    """Answer each line of `requests` with a line in `answers`, until one says `close`."""
    engine = Vllm()
    known = {"open": engine.open, "generate": engine.generate, "forget": engine.forget}
    for line in requests:
        request = json.loads(line)
        if request["do"] == "close":
            return
        try:
            answer = {"ok": known[request["do"]](request)}
        except Exception as error:  # whatever it is, the parent has to know, and decides
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    if sys.path and Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]  # this folder's modules are no business of vLLM's imports
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)
    answers.close()
    os._exit(0)  # vLLM's threads would hold up an ordinary end


if __name__ == "__main__":
    main()
