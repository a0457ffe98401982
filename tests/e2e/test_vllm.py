"""vLLM itself: it says what this library says, trains, meets no stale cache, and loads an exported node.

Needs an environment with vLLM (`benchmarks/install_peers.sh FOLDER vllm`), named by NEUROMAS_VLLM_PYTHON.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from helpers import forward, run_config
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.builtin import TINY_FOLDER
from neuromas.network.forward import Limits, Network
from neuromas.network.vllm.engine import VllmEngine, VllmSettings
from neuromas.run import export
from neuromas.run.build import load_run
from neuromas.run.loop import train
from neuromas.tasks import load_task
from neuromas.types import Trace

SECONDS = 3600.0  # for a start, on a machine that may be busy
PYTHON = os.environ.get("NEUROMAS_VLLM_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="NEUROMAS_VLLM_PYTHON names no Python with vLLM"),
]

# Nothing of this library: a node's folder, the ids of a prompt, how many tokens -> the completion's ids.
PLAIN = """
import json, os, sys
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = str(min(os.sched_getaffinity(0)))
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
base, calls = sys.argv[1], json.loads(sys.argv[2])
llm = LLM(base, dtype="float32", enable_lora=True, max_lora_rank=8, max_model_len=512, enforce_eager=True)
for number, (node, ids, count) in enumerate(calls, 1):
    how = SamplingParams(temperature=0, max_tokens=count)
    out = llm.generate([{"prompt_token_ids": ids}], how, lora_request=LoRARequest(node, number, node), use_tqdm=False)
    print("found", json.dumps([list(out[0].outputs[0].token_ids), out[0].outputs[0].text]), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    backbone = Backbone.load("tiny", device="cpu", dtype="float32")
    made = Network.create("2-1", backbone, limits=Limits(8, 6))
    made.engine = VllmEngine(backbone, VllmSettings(adapters=4, at_once=2, rank=8, start_seconds=SECONDS))
    disturb(made)
    yield made
    made.engine.close()


def disturb(network: Network) -> None:
    with torch.no_grad():
        for stack in network.adapters.B.values():
            stack += torch.randn_like(stack) * 0.5


def said(traces: list[Trace]) -> list[list[list[int]]]:
    return [[call.completion_ids for call in trace.calls] for trace in traces]


def test_greedy_traces_are_those_of_the_library_also_after_an_update(network: Network) -> None:
    """Also with the same prompts again, whose keys and values of the old adapters are in the prefix cache."""
    asked = load_task("compositional").questions("validation")[:6]
    engine, seen = network.engine, []
    for _ in range(2):
        network.engine = engine
        theirs = said(network.answer(asked))
        network.engine = None
        assert theirs == said(network.answer(asked))
        seen.append(theirs)
        disturb(network)
    network.engine = engine
    assert seen[0] != seen[1]  # the update matters


def test_sampled_tokens_depend_on_their_address_and_not_on_the_batch(network: Network) -> None:
    asked = load_task("compositional").questions("train")[:4]
    there, back = forward(network, asked, rollouts=2, seed=5), forward(network, asked[::-1], rollouts=2, seed=5)
    found = {(t.question_id, t.rollout): said([t]) for t in back}
    assert all(found[t.question_id, t.rollout] == said([t]) for t in there)
    assert said(there) != said(forward(network, asked, rollouts=2, seed=6))
    assert len({str(said([t])) for t in there}) > 4  # rollouts differ


def test_training_logs_a_mismatch_of_rounding_alone_and_an_exported_node_says_the_same_in_vllm(tmp_path) -> None:
    options: dict[str, Any] = {
        "topology": "1-1",
        "backbone__name": "tiny",
        "sampling__engine": "vllm",
        "adapter__rank": 8,
    }
    options["vllm__start_seconds"] = SECONDS
    config = run_config(**options, train__steps=3, sampling__message_tokens=8, sampling__answer_tokens=6)
    train(config, tmp_path / "run")
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")[1:]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["engine"]["tokens"] > 0 and 0 <= line["engine"]["kl"] < 1e-6 for line in lines)
    assert all(abs(line["engine"]["ratio_mean"] - 1) < 1e-3 for line in lines)

    folder = export.export(tmp_path / "run", tmp_path / "shared", which="last")
    trained, task, _ = load_run(tmp_path / "run", "last")
    assert isinstance(trained, Network)
    trace = trained.answer(task.questions("test")[:1])[0]
    nodes = folder / "best" / "nodes"
    calls = [(str(nodes / c.node), c.prefix_ids + c.own_ids, len(c.completion_ids)) for c in trace.calls]
    command = [str(PYTHON), "-c", PLAIN, str(TINY_FOLDER), json.dumps(calls)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = [json.loads(line.split(" ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("found ")]
    assert [ids for ids, _ in found] == [call.completion_ids for call in trace.calls], done.stderr[-2000:]
    assert [text for _, text in found] == [call.text for call in trace.calls]
