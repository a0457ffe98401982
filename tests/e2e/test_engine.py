"""A run whose rollouts another process samples: a fake child that computes with this library, and vLLM where it is."""

import sys
from pathlib import Path

import pytest

from helpers import run_config
from neuromas.errors import ConfigError, EngineError
from neuromas.files import read_json_lines
from neuromas.network.vllm import engine as engine_module
from neuromas.run.build import load_run
from neuromas.run.loop import train

FAKE = Path(__file__).parents[1] / "fake_engine.py"
RUN = {
    "backbone__name": "tiny",
    "backbone__device": "cpu",
    "topology": "1-1",
    "task__options": {"train_size": 64, "validation_size": 16, "test_size": 16},
    "sampling__message_tokens": 8,
    "sampling__answer_tokens": 6,
    "train__steps": 2,
    "train__rollouts": 8,
    "train__validation_questions": 4,
    "train__silence_questions": 2,
}


def by_fake(monkeypatch: pytest.MonkeyPatch, mode: str, log: Path) -> None:
    """Let `sampling.engine = "vllm"` start the fake child."""
    monkeypatch.setattr(engine_module, "python", lambda: sys.executable)
    start = engine_module.Child
    monkeypatch.setattr(
        engine_module, "Child", lambda command, file: start((command[0], str(FAKE), mode, str(log)), file)
    )


@pytest.mark.slow
def test_a_run_by_another_process_is_the_run_by_the_library_itself(tmp_path, monkeypatch) -> None:
    """The same rollouts, rewards and weights up to rounding; each update handed over under a new name."""
    plain, _ = train(run_config(**RUN), tmp_path / "plain")
    by_fake(monkeypatch, "own", tmp_path / "log")
    other, _ = train(run_config(**RUN, sampling__engine="vllm"), tmp_path / "other")
    mine, theirs = (read_json_lines(tmp_path / run / "metrics.jsonl") for run in ("plain", "other"))
    for a, b in zip(mine, theirs, strict=True):
        for key in ("reward", "generated_tokens", "validation"):
            assert a.get(key) == b.get(key)
    norms = lambda lines: [node["gradient_norm"] for line in lines[1:] for node in line["nodes"].values()]
    assert norms(theirs) == pytest.approx(norms(mine), rel=1e-2, abs=1e-6)
    for a, b in zip(plain.adapters.stacks(), other.adapters.stacks(), strict=True):
        assert (a - b).norm() < 1e-2 * a.norm()
    for line in theirs[1:]:
        assert line["engine"]["kl"] < 1e-6
        assert line["engine"]["tokens"] > 0
    assert other.engine is None  # its process has ended with the run

    sent = read_json_lines(tmp_path / "log")
    names = [name for request in sent if request["do"] == "generate" for name, _, _ in request["adapters"]]
    assert sent[-1]["do"] == "close"
    updates = sum(line["nodes"]["1.1"]["gradient_norm"] > 0 for line in theirs[1:])
    assert updates > 0
    assert len({name for name in names if name.startswith("1.1@")}) == 1 + updates
    assert load_run(tmp_path / "other", "last")[0].engine is None


@pytest.mark.slow
def test_growth_takes_the_engine_along(tmp_path, monkeypatch) -> None:
    by_fake(monkeypatch, "own", tmp_path / "log")
    stages = [{"steps": 1}, {"topology": "2", "steps": 1, "init": "zero"}]
    train(run_config(**RUN | {"topology": "1"}, sampling__engine="vllm", stages=stages), tmp_path / "run")
    sent = read_json_lines(tmp_path / "log")
    assert (sent[0]["adapters"], sent[0]["at_once"]) == (3, 2)  # room for the last stage from the start
    spoken = {
        name.split("@")[0] for request in sent if request["do"] == "generate" for name, _, _ in request["adapters"]
    }
    assert spoken == {"1.1", "1.2", "out"}


@pytest.mark.slow
def test_an_engine_that_tells_other_probabilities_ends_the_run_with_its_last_state_kept(tmp_path, monkeypatch) -> None:
    by_fake(monkeypatch, "shifted", tmp_path / "log")
    with pytest.raises(EngineError, match=r"step 1: .*train.max_mismatch"):
        train(run_config(**RUN, sampling__engine="vllm"), tmp_path / "run")
    assert read_json_lines(tmp_path / "log")[-1]["do"] == "close"
    assert load_run(tmp_path / "run", "last")[0] is not None


def test_a_dead_engine_ends_the_run_with_an_error(tmp_path, monkeypatch) -> None:
    by_fake(monkeypatch, "die", tmp_path / "log")
    with pytest.raises(EngineError, match="SIGKILL"):
        train(run_config(**RUN, sampling__engine="vllm"), tmp_path / "run")


def test_settings_of_an_engine_that_is_not_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="sampling.engine"):
        run_config(vllm__cache_gib=2)
    with pytest.raises(ConfigError, match="sampling.engine"):
        run_config(method="malt", sampling__engine="vllm", train__steps=100)
