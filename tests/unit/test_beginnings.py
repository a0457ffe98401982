"""Ways to begin: an adapter made elsewhere, right rollouts imitated, easier questions; and the report before step 1."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import binary_backbone, forward, make_backbone, make_network, plain_model, questions, run_config
from neuromas.cli.training import TrainingView
from neuromas.errors import CheckpointError, NeuromasError
from neuromas.network.backbone import Backbone
from neuromas.run.build import build, fill_adapters
from neuromas.run.final import evaluate_run
from neuromas.run.loop import train
from neuromas.run.start import summary
from neuromas.train.init import fill
from neuromas.types import Grade

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


def lora(folder: Path, **settings: Any) -> Any:
    """Write a PEFT folder with random weights for the backbone of `make_network`; returns PEFT's model."""
    chosen: dict[str, Any] = {"r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"]} | settings
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **chosen)
    model = peft.get_peft_model(plain_model(), config).eval()
    model.save_pretrained(folder)
    return model


# -- an adapter made elsewhere ------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"r": 4}, {"target_modules": ["o_proj"]}])
def test_a_node_that_begins_with_a_peft_folder_says_what_peft_says(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = lora(tmp_path, **settings)
    network = make_network("single", noise=0, rank=4, alpha=3.0)
    untrained = forward(network, questions(3), rollouts=2, seed=0)
    fill(network.adapters, "out", tmp_path)
    for trace in forward(network, questions(3), rollouts=2, seed=0):
        (call,) = trace.calls
        prompt = call.prefix_ids + call.own_ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + call.completion_ids])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[range(len(call.completion_ids)), call.completion_ids]
        assert call.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
    assert forward(network, questions(3), rollouts=2, seed=0)[0].calls[0].logprobs != untrained[0].calls[0].logprobs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 8}, r"has rank 8, and adapter.rank is 4; set it to 8"),
        ({"target_modules": ["q_proj", "up_proj"]}, r"add \['up_proj'\] to adapter.targets"),
        ({"use_dora": True}, r"use_dora = True, which a node cannot compute"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\]"),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_with_a_remedy(tmp_path: Path, settings: Any, message: str) -> None:
    lora(tmp_path, **settings)
    with pytest.raises(CheckpointError, match=message):
        fill(make_network("single", rank=4).adapters, "out", tmp_path)


def test_a_folder_without_safetensors_or_of_another_backbone_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read .* as PEFT's save_pretrained writes it"):
        fill(make_network("single").adapters, "out", tmp_path)
    lora(tmp_path)
    with pytest.raises(CheckpointError, match="was made for another backbone"):
        fill(make_network("single", rank=3, backbone=make_backbone(hidden_size=64)).adapters, "out", tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_every_node_or_the_named_ones_begin_with_the_adapter_and_the_run_says_so(backbone, tmp_path, tied) -> None:
    lora(tmp_path / "lora")
    folder = str(tmp_path / "lora")
    config = run_config(adapter__init_from=folder, adapter__tied=tied, train__steps=1, train__learning_rate=1e-9)
    network, task = train(config, tmp_path / "run", backbone=backbone)
    plain, _ = build(run_config(adapter__tied=tied), backbone)
    for n in range(len(network.adapters.names)):
        for key in network.adapters.shapes:
            mine, untrained = (bank.pair(key)[0][n] for bank in (network.adapters, plain.adapters))
            assert torch.equal(mine, untrained) == ("o_proj" in key or "k_proj" in key)
    final = evaluate_run(tmp_path / "run", network, task, limit=8)
    assert final.began == f"every node from the adapter {folder}"
    assert final.results[0].accuracy == final.results[2].accuracy, "the row untrained begins as the run did"


def test_named_nodes_alone_begin_with_an_adapter(backbone, tmp_path: Path) -> None:
    lora(tmp_path)
    config = run_config(adapter__init_from={"out": str(tmp_path)})
    network, _ = build(config, backbone)
    fill_adapters(config, network)
    key = next(key for key in network.adapters.shapes if "q_proj" in key)
    _, B = network.adapters.pair(key)
    assert [bool(B[network.adapters.index[node]].any()) for node in ("1.1", "out")] == [False, True]
    with pytest.raises(NeuromasError, match=r"names 9.9, and the adapters are 1.1, out"):
        fill_adapters(run_config(adapter__init_from={"9.9": str(tmp_path)}), network)


# -- the report before the first update ---------------------------------------------------------------------


def test_a_run_reports_what_it_starts_from_and_trains_as_without_the_report(backbone, tmp_path: Path) -> None:
    seen: list[Any] = []
    config = run_config(train__start_questions=3, train__steps=2)
    train(config, tmp_path / "with", backbone=backbone, on_start=seen.append)
    train(run_config(train__steps=2), tmp_path / "without", backbone=backbone, on_start=seen.append)
    (start,) = seen
    said = json.loads((tmp_path / "with" / "start.json").read_text())
    assert said == start.to_dict() and not (tmp_path / "without" / "start.json").exists()
    assert (start.n, start.rollouts, len(start.samples)) == (3, 4, 3)
    assert start.all_wrong + start.mixed + start.all_right == pytest.approx(1)
    assert start.calls == 3 * 5 * 2 and 0 < start.parse_rate < 1
    lines = [[json.loads(line) for line in (tmp_path / run / "metrics.jsonl").open()] for run in ("with", "without")]
    assert [{**line, "seconds": 0} for line in lines[0]] == [{**line, "seconds": 0} for line in lines[1]]
    network, task = train(config, tmp_path / "with", backbone=backbone, resume=True)
    assert evaluate_run(tmp_path / "with", network, task, 4).start == start


@pytest.mark.parametrize(
    ("groups", "shares", "advice"),
    [
        ([[0, 0], [0, 0]], (1.0, 0.0, 0.0), "0% of the questions have a right rollout"),
        ([[1, 1], [1, 1]], (0.0, 0.0, 1.0), "are all right already"),
        ([[0, 1], [0, 0]], (0.5, 0.5, 0.0), None),
        ([[0.5, 0.5], [1, 1]], (0.0, 0.5, 0.5), None),
    ],
)
def test_the_report_tells_opposite_states_apart(groups: list[list[float]], shares: Any, advice: str | None) -> None:
    config = run_config(train__rollouts=2)
    traces = [forward(make_network("1"), [question], rollouts=3, seed=0) for question in questions(len(groups))]
    grades = [[Grade(reward, "7") for reward in (0, *group)] for group in groups]
    found = summary(config, list(zip(questions(len(groups)), traces, grades, strict=True)), 1.0)
    assert (found.all_wrong, found.mixed, found.all_right) == shares
    assert [advice in text for text in found.advice if "messages" not in text] == ([] if advice is None else [True])


def test_the_terminal_shows_the_report_with_markup_and_control_characters_disarmed(capsys) -> None:
    trace = forward(make_network("1"), questions(1), rollouts=3, seed=0)
    trace[1].calls[0].text = "[bold]hi\x1b[2J"
    found = summary(run_config(train__rollouts=2), [(questions(1)[0], trace, [Grade(0, None)] * 3)], 1.0)
    with TrainingView(3) as view:
        view.begins(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "[bold]hi\N{REPLACEMENT CHARACTER}[2J" in shown and "\x1b[2J" not in shown
    assert "groups all wrong 100%" in shown and "adapter.init_from" in shown
