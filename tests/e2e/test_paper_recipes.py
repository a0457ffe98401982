"""The paper's recipes: whole as plans, and run to their report with a scaled-down random backbone of the same shape."""

import html
import json
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from neuromas.compare import run as running
from neuromas.compare import work
from neuromas.compare.plan import Plan, make_plan, slug
from neuromas.compare.spec import Spec
from neuromas.evaluate.report import write_report
from neuromas.files import read_json_lines
from neuromas.network.topology import Topology
from neuromas.run.build import load_run
from neuromas.tasks import load_task
from paper import PUBLISHED, RECIPES, save

both = pytest.mark.parametrize("name", PUBLISHED)
HUB = {"qwen3-0.6b": "Qwen/Qwen3-0.6B", "gemma-3-1b-it": "google/gemma-3-1b-it"}
NETWORKS = {"neuromas-3": 3, "neuromas-5": 5, "neuromas-7": 7}
BASELINES = {"direct", "self-refine", "self-check", "moa", "goa", "agentnet", "gptswarm"}
SYSTEMS = BASELINES | NETWORKS.keys() | {"single-llm-rl", "malt", "collm-cc"}
SIZES = {  # questions that the paper asks
    "arc-challenge": 200, "bbh/navigate": 200, "mmlu/abstract_algebra": 100, "mmlu/college_physics": 102,
    "mmlu/professional_medicine": 200, "humaneval": 164,
}  # fmt: skip


def plan_of(name: str) -> Plan:
    return make_plan(Spec.load(RECIPES / f"paper_{name}.toml"))


# -- the recipes as they are ---------------------------------------------------------------------------------


@both
def test_a_recipe_names_the_papers_backbone_systems_and_limits(name: str) -> None:
    plan = plan_of(name)
    assert plan.spec.backbone.name == HUB[name]
    missing = {"neuromas-7"} if name.startswith("gemma") else set[str]()  # not reported for Gemma
    assert {row.name for row in plan.rows} >= SYSTEMS - missing
    for row in plan.rows:
        config = row.contender.config(plan.spec.tasks[0], 0)
        assert (config.sampling.message_tokens, config.sampling.answer_tokens) == (200, 200)
        if row.name in NETWORKS:
            assert len(Topology.parse(config.topology).nodes) == NETWORKS[row.name]
    assert {t.name for t in plan.spec.tasks} == ({"arc-challenge"} if missing else SIZES.keys())
    assert [row.name for row in plan.rows if row.reference] == ["neuromas-3"]


@both
def test_every_trained_row_has_a_control_with_as_many_calls(name: str) -> None:
    rows = plan_of(name).rows
    votes = {row.variant.votes for row in rows if row.contender.name == "single-llm-rl"}
    assert votes == {1} | {nodes for system, nodes in NETWORKS.items() if system in {row.name for row in rows}}
    silenced = {row.contender.name for row in rows if row.variant.delivery == "blanked"}
    assert silenced == {row.name for row in rows if row.name in NETWORKS}
    (single,) = (row for row in rows if row.name == "single-llm-rl")
    assert single.control_for == ["same parameters as neuromas-3"]


def parameters(plan: Plan, system: str, name: str) -> int:
    """Trainable parameters of a system on the published architecture, whose weights are never made."""
    config = next(row.contender.config(plan.spec.tasks[0], 0) for row in plan.rows if row.name == system)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**PUBLISHED[name]))
    layers = [m for key, m in model.named_modules() if key.rsplit(".", 1)[-1] in config.adapter.targets]
    each = sum(config.adapter.rank * (layer.in_features + layer.out_features) for layer in layers)
    return each * len(Topology.parse(config.topology).nodes)


@pytest.mark.parametrize(
    ("system", "count"),
    [
        ("neuromas-3", 3 * 2_293_760),
        ("neuromas-5", 5 * 2_293_760),
        ("neuromas-7", 7 * 2_293_760),
        ("single-llm-rl", 3 * 2_293_760),
    ],
)
def test_trainable_parameters_on_the_published_architecture_are_those_of_the_paper(system: str, count: int) -> None:
    assert parameters(plan_of("qwen3-0.6b"), system, "qwen3-0.6b") == count
    assert round(count / 1e6, 1) in (6.9, 11.5, 16.1)


def test_the_count_that_gemmas_recipe_states_is_right() -> None:
    plan, name = plan_of("gemma-3-1b-it"), "gemma-3-1b-it"
    assert parameters(plan, "neuromas-3", name) == parameters(plan, "single-llm-rl", name) == 3 * 1_490_944
    assert "1,490,944" in (RECIPES / f"paper_{name}.toml").read_text()


@both
@pytest.mark.usefixtures("benchmark_data")
def test_as_many_questions_are_asked_as_in_the_paper_and_none_of_them_is_trained_on(name: str) -> None:
    for entry in plan_of(name).spec.tasks:
        task = load_task(entry.name, **entry.options)
        asked = task.questions("test")[: entry.questions]
        assert len(asked) == SIZES[entry.name]
        learned = {q.text for split in ("train", "validation") for q in task.questions(split)}  # type: ignore[arg-type]
        assert not {q.text for q in asked} & learned


# -- the dry run ---------------------------------------------------------------------------------------------


def shrunk(name: str, folder: Path, tasks: Collection[str]) -> Spec:
    """The recipe with the random backbone in `folder`: one seed, rate and update, a question or two of each task."""
    data: dict[str, Any] = tomllib.loads((RECIPES / f"paper_{name}.toml").read_text(encoding="utf-8"))
    data |= {"seeds": [0], "learning_rates": [1e-2]}
    data["backbone"] |= {"name": str(folder), "device": "cpu", "dtype": "float32"}
    data["sampling"] |= {"message_tokens": 2, "answer_tokens": 2}
    small = {"questions": 1, "rollouts": 4, "validate_every": 1, "validation_questions": 1, "checkpoint_every": 1}
    data["train"] |= {"steps": 1, **small}
    data["tasks"] = [
        task | {"questions": 1 + (task["name"] != "humaneval")} for task in data["tasks"] if task["name"] in tasks
    ]
    systems = data["systems"]
    systems["malt"] |= {"options": {"search": 1, "sft": 1, "branching": 2, "batch": 2}, "train": {"steps": 3}}
    systems["self-check-steps"]["options"] = {"samples": 2, "steps": 1}
    systems["agentnet"]["options"] = {"questions": 2, "batch": 2}
    systems["gptswarm"]["options"] = {"iterations": 1, "batch": 1}
    return Spec.make(data)


RUNS = [
    ("gemma-3-1b-it", ("arc-challenge",)),
    ("qwen3-0.6b", ("bbh/navigate", "humaneval")),  # one task with options and one without
    pytest.param(("qwen3-0.6b", SIZES), marks=pytest.mark.slow),
]
DryRun = tuple[str, Spec, Path]


@pytest.fixture(scope="module", params=RUNS, ids=lambda of: f"{of[0]}-{len(of[1])}")
def dry_run(request: Any, tmp_path_factory: pytest.TempPathFactory, benchmark_data: Path) -> Iterator[DryRun]:
    """A recipe run from its plan to its report."""
    name, tasks = request.param
    folder = tmp_path_factory.mktemp(name)
    spec = shrunk(name, save(name, folder / "backbone"), tasks)
    running.run(spec, folder / "out")
    write_report(folder / "out")
    yield name, spec, folder / "out"
    work._ready.clear()


def test_the_dry_run_reports_every_row_on_every_task(dry_run: DryRun) -> None:
    _, spec, out = dry_run
    rows = [row.name for row in make_plan(spec).rows]
    summary = json.loads((out / "summary.json").read_text())
    for task in spec.tasks:
        of_task = [row["system"] for row in summary if row["task"] == task.title]
        assert of_task == [name for name in rows if task.name != "humaneval" or name != "logit"]
        tested = [row["versus_reference"] is not None for row in summary if row["task"] == task.title]
        assert tested == [name != "neuromas-3" for name in of_task]
    assert {row["n"] for row in summary if row["task"] != "humaneval"} == {2}
    page = (out / "report.html").read_text()
    assert html.escape(spec.title) in page and all(f">{name}</td>" in page for name in rows)


def test_the_dry_run_makes_the_calls_and_trains_the_parameters_that_the_paper_states(dry_run: DryRun) -> None:
    _, _, out = dry_run
    calls = {"direct": 1, "self-refine": 2, "self-check": 3, "moa": 4, "gptswarm": 11, "collm-cc": 3}
    calls |= NETWORKS | {"single-llm-rl": 1, "malt": 3, "malt, vote of 3": 9, "single-llm-rl, vote of 5": 5}
    trained: dict[str, int] = {}
    for row in json.loads((out / "summary.json").read_text()):
        assert row["calls"] == calls.get(row["system"], row["calls"]), row["system"]
        trained[row["system"]] = row["trainable_parameters"]
    each = trained["neuromas-3"] // 3
    for name in ("single-llm-rl", "malt", "collm-cc", "scratchpad-3-r24"):
        assert trained[name] == 3 * each, name
    assert all(trained[name] == nodes * each for name, nodes in NETWORKS.items() if name in trained)
    assert all(trained[name] == 0 for name in BASELINES - {"gptswarm"})


def test_the_dry_run_prints_floors_that_are_counted_from_the_questions_asked(dry_run: DryRun) -> None:
    _, spec, out = dry_run
    first = spec.tasks[0].name
    answers = Counter(q.answer for q in load_task(first).questions("test")[:2])
    floors = [row["floors"] for row in json.loads((out / "summary.json").read_text()) if row["task"] == first]
    assert {f["best_constant"] for f in floors} == {max(answers.values()) / 2}


def test_nodes_of_the_dry_run_were_updated_and_prompted_through_the_chat_template(dry_run: DryRun) -> None:
    name, spec, out = dry_run
    folder = out / "runs" / "neuromas-3" / slug(spec.tasks[0].title) / "lr0.01_s0"
    network: Any = load_run(folder, "last")[0]
    question = load_task(spec.tasks[0].name).questions("test")[0]
    (trace,) = network.answer([question])
    prompts = [network.backbone.tokenizer.decode(c.prefix_ids + c.own_ids) for c in trace.calls]
    before, after = {
        "qwen3-0.6b": ("<|im_start|>system\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        "gemma-3-1b-it": ("<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
    }[name]
    assert all(prompt.startswith(f"{before}Write one step of the solution") for prompt in prompts[:-1])
    assert prompts[-1].startswith(f"{before}Give the final answer.")
    assert all(prompt.endswith(after) for prompt in prompts[:-1])
    assert prompts[-1].endswith(after + question.answer_prefix)
    steps = read_json_lines(folder / "metrics.jsonl")
    assert [line["step"] for line in steps] == [0, 1]
    assert steps[1]["logprob_gap"] < 1e-3
