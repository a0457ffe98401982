"""Sampling in another process: the protocol, the names of adapters, its faults and its end. A fake child, no vLLM."""

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import forward, make_network, questions
from neuromas.errors import ConfigError, EngineError
from neuromas.network.forward import Network
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding
from neuromas.network.vllm import engine as engine_module
from neuromas.network.vllm.engine import VllmEngine, VllmSettings, python
from neuromas.network.vllm.handover import Handover

FAKE = Path(__file__).parents[1] / "fake_engine.py"
SETTINGS = VllmSettings(adapters=3, at_once=2, rank=3, start_seconds=60, call_seconds=60)


@contextmanager
def opened(
    network: Network, mode: str, log: Path | None = None, settings: VllmSettings = SETTINGS
) -> Iterator[VllmEngine]:
    command = (sys.executable, str(FAKE), mode, *([str(log)] if log else []))
    engine = VllmEngine(network.backbone, settings, command=command, model="nowhere")
    try:
        yield engine
    finally:
        engine.close()


def requests(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ask(engine: VllmEngine, network: Network, adapter: int = 0) -> list[int]:
    """The numbers of the versions that the echoing child used."""
    done = engine.generate(network.adapters, [Group(adapter, [1, 2], [[]])], [7], 2, Decoding())
    return done[0].ids


def test_a_row_is_asked_for_with_its_own_tokens_adapter_stream_and_decoding(tmp_path) -> None:
    network = make_network("2")
    ways = [Decoding(greedy=True), Decoding(temperature=0.7), Decoding(top_p=0.9)]
    groups = [Group(1, [5, 6], [[7], []]), Group(0, [8], [[9, 10]])]
    with opened(network, "echo", tmp_path / "log") as engine:
        done = engine.generate(network.adapters, groups, [11, 2**64 - 1, 13], 4, ways)
    sent = requests(tmp_path / "log")[1]
    assert [row["ids"] for row in sent["rows"]] == [[5, 6, 7], [5, 6], [8, 9, 10]]
    assert [row["seed"] for row in sent["rows"]] == [11, 2**64 - 1, 13]
    assert [(r["greedy"], r["temperature"], r["top_p"]) for r in sent["rows"]] == [
        (True, 1.0, 1.0),
        (False, 0.7, 1.0),
        (False, 1.0, 0.9),
    ]
    of_row = [sent["adapters"][row["adapter"]][0].split("@")[0] for row in sent["rows"]]
    assert of_row == [network.adapters.names[a] for a in (1, 1, 0)]
    assert sent["stop"] == sorted(network.backbone.end_ids)
    assert sent["max_tokens"] == 4
    assert [len(one.ids) for one in done] == [4, 4, 4]
    assert done[0].ids[0] == done[1].ids[0] != done[2].ids[0]


def test_the_engine_is_told_what_it_has_to_hold(tmp_path) -> None:
    network = make_network("2")
    with opened(network, "echo", tmp_path / "log"):
        pass
    told = requests(tmp_path / "log")[0]
    assert told["do"] == "open"
    assert told["dtype"] == "float32"
    assert told["rank"] == 8  # the next that vLLM makes room for
    assert told["context"] == network.backbone.context_window
    assert told["eager"] is True  # on a CPU


def test_a_changed_adapter_gets_a_name_that_was_never_used_and_an_equal_one_keeps_its_own(tmp_path) -> None:
    network = make_network("2")
    weights = next(iter(network.adapters.B.values()))
    with opened(network, "echo", tmp_path / "log") as engine:
        first = ask(engine, network)
        assert ask(engine, network) == first
        before = weights.data.clone()
        weights.data[0] += 1
        second = ask(engine, network)
        weights.data.copy_(before)
        third = ask(engine, network)
        other = ask(engine, network, adapter=1)
        weights.data[0] += 1
        assert ask(engine, network, adapter=1) == other  # its neighbour's change is none of its own
    assert len({first[0], second[0], third[0], other[0]}) == 4
    handed = [adapter for r in requests(tmp_path / "log") if r["do"] == "generate" for adapter in r["adapters"]]
    assert len({name for name, _, _ in handed}) == len({number for _, number, _ in handed}) == 4


def test_replaced_adapters_are_forgotten_and_their_files_removed(tmp_path) -> None:
    network = make_network("2")
    weights = next(iter(network.adapters.A.values()))
    with opened(network, "echo", tmp_path / "log") as engine:
        for _ in range(3):
            ask(engine, network)
            weights.data[0] += 1
        sent = [r for r in requests(tmp_path / "log") if r["do"] == "generate"]
        folders = [Path(r["adapters"][0][2]) for r in sent]
        assert [folder.exists() for folder in folders] == [False, False, True]
    assert [r["ids"] for r in requests(tmp_path / "log") if r["do"] == "forget"] == [[1], [2]]
    assert not folders[-1].exists()


def test_alpha_makes_another_version_too(tmp_path) -> None:
    network = make_network("1")
    handover = Handover(tmp_path)
    (first,), _ = handover.hand(network.adapters, [0])
    network.adapters.alpha *= 2
    (second,), replaced = handover.hand(network.adapters, [0])
    assert replaced == [first] and second.name != first.name


def test_the_death_of_the_child_is_told_with_its_cause_and_last_words() -> None:
    network = make_network("1")
    with opened(network, "die") as engine, pytest.raises(EngineError, match=r"SIGKILL[\s\S]*out of luck"):
        ask(engine, network)


def test_a_child_that_died_between_two_calls_is_told_too() -> None:
    network = make_network("1")
    with opened(network, "echo") as engine:
        os.kill(engine.pid, signal.SIGTERM)
        with pytest.raises(EngineError, match="SIGTERM"):
            ask(engine, network)
        with pytest.raises(EngineError, match="has ended"):
            ask(engine, network)


def test_a_child_that_does_not_answer_in_time_is_stopped_and_told() -> None:
    network = make_network("1")
    settings = VllmSettings(adapters=2, at_once=1, rank=3, start_seconds=60, call_seconds=0.5)
    start = time.monotonic()
    with opened(network, "hang", settings=settings) as engine:
        with pytest.raises(EngineError, match=r"within 0.5 seconds.*vllm.call_seconds"):
            ask(engine, network)
        assert time.monotonic() - start < 50
        assert not alive(engine.pid)


def test_an_error_of_the_child_is_passed_on_and_the_child_lives_on() -> None:
    network = make_network("1")
    with opened(network, "refuse") as engine:
        for _ in range(2):
            with pytest.raises(EngineError, match="RuntimeError: no such adapter"):
                ask(engine, network)
        assert alive(engine.pid)


def test_a_child_that_cannot_start_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    network = make_network("1")
    with pytest.raises(EngineError, match="exit status"):
        VllmEngine(network.backbone, SETTINGS, command=(sys.executable, "-c", "raise SystemExit(3)"), model="x")
    with pytest.raises(EngineError, match="cannot be started"):
        VllmEngine(network.backbone, SETTINGS, command=("/nowhere/python",), model="x")
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_closing_ends_the_process_and_so_does_forgetting_it() -> None:
    network = make_network("1")
    with opened(network, "echo") as engine:
        pid = engine.pid
        assert alive(pid)
    assert not alive(pid)
    engine.close()  # again
    forgotten = VllmEngine(network.backbone, SETTINGS, command=(sys.executable, str(FAKE), "echo"), model="x")
    pid = forgotten.pid
    del forgotten
    gc.collect()
    assert not alive(pid)


def test_rows_that_someone_listens_to_are_sampled_by_the_library_itself() -> None:
    network = make_network("1")

    class Refusing:
        def generate(self, *_: Any) -> Any:
            raise AssertionError("asked")

        def close(self) -> None: ...

    network.engine = Refusing()
    heard: list[int] = []
    group = Group(0, [1, 2], [[]])
    done = network.sample([group], [7], 3, Decoding(), lambda row, ids: not heard.append(len(ids)))
    assert len(done[0].ids) == 3 and heard
    with pytest.raises(AssertionError, match="asked"):
        forward(network, questions(1), rollouts=1, seed=0)


def test_where_vllm_is_missing_the_error_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setenv("NEUROMAS_VLLM_PYTHON", "/nowhere/python")
    with pytest.raises(EngineError, match="/nowhere/python"):
        python()
    monkeypatch.setenv("NEUROMAS_VLLM_PYTHON", sys.executable)
    assert python() == sys.executable
    monkeypatch.delenv("NEUROMAS_VLLM_PYTHON")
    monkeypatch.setattr(engine_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match="NEUROMAS_VLLM_PYTHON"):
        python()


def test_a_rank_that_vllm_has_no_room_for_is_refused() -> None:
    network = make_network("1")
    with pytest.raises(ConfigError, match="513"):
        VllmEngine(network.backbone, VllmSettings(1, 1, 513), command=("true",), model="x")


def test_entropy_without_an_engines_help_is_the_estimate_from_the_sampled_tokens() -> None:
    with torch.no_grad():
        call = forward(make_network("1"), questions(1), rollouts=1, seed=0)[0].calls[0]
    assert call.entropy == pytest.approx(sum(call.entropies))
    call.entropies = []
    assert call.entropy == pytest.approx(-sum(call.logprobs))
