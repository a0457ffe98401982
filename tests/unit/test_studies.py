"""The studies: their code fits the library, and their published reports are made of their published lines."""

import importlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import studies
from neuromas.config import RunConfig
from neuromas.files import append_json_line, read_json_lines
from studies.capacity import report as capacity_report
from studies.capacity import study as capacity
from studies.credit import report as credit_report
from studies.credit import study as credit
from studies.dropout import study as dropout
from studies.growth import report as growth_report
from studies.prompts import report as prompts_report
from studies.prompts import study as prompts
from studies.scale import simulation

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in Path(studies.__file__).parent.rglob("*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_every_name_that_a_study_imports_exists(module: str) -> None:
    importlib.import_module(module)


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in (ROOT / "studies").glob("*/__init__.py")))
def test_every_study_says_what_it_asks_and_how_to_run_it(folder: str) -> None:
    lines = (ROOT / "studies" / folder / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line.split("-m ")[1].split()[0] for line in lines if "python -m" in line.lower() or " -m " in line]
    assert commands and set(commands) <= set(MODULES)
    assert f"]({folder}/README.md)" in (ROOT / "studies/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (growth_report.main, "growth_tiny"),
        (credit_report.main, "credit_tiny_compositional"),
        (capacity_report.main, "capacity_tiny"),
        (prompts_report.main, "prompts"),
    ],
)
def test_a_published_report_is_made_of_the_published_lines(
    write: Callable[[Path, Path], None], name: str, tmp_path: Path
) -> None:
    write(RESULTS / name, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text == (RESULTS / name / "report.md").read_text(encoding="utf-8")
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {path.name for path in (RESULTS / name).glob("*.png")}


def test_the_published_report_of_dropout_is_made_of_the_published_lines() -> None:
    lines = read_json_lines(RESULTS / "dropout_tiny/dropout.jsonl")
    assert dropout.report(lines) == (RESULTS / "dropout_tiny/report.md").read_text(encoding="utf-8")


def test_the_worst_silenced_node_is_the_worst_of_each_run() -> None:
    def line(seed: int, *silenced: float) -> dict[str, Any]:
        accuracies = {"whole": 1.0} | {f"1.{n}": value for n, value in enumerate(silenced)}
        same = {"floors": {"chance": 0.1, "best_constant": 0.2}, "parse_rate": 1.0, "calls": 3, "trainable": 5}
        return {"dropout": 0.1, "seed": seed, "n": 8, "greedy": accuracies, "sampled": accuracies, **same}

    text = dropout.report([line(1, 1.0, 0.5), line(0, 0.25, 0.75)])
    assert "| greedy | 0.1 | 2 | 100.0 (100 100) | 62.5 (50 75) | 37.5 (25 50) |" in text


def test_every_system_of_the_capacity_study_is_a_run_with_settings_of_its_method() -> None:
    for method, shapes in capacity.SHAPES.items():
        for shape in shapes:
            config = capacity.config_of(method, shape, 1e-3, 1)
            assert isinstance(config, RunConfig)
            assert (config.topology, config.adapter.rank, config.seed) == (shape.topology, shape.rank, 1)
    longer, usual = (capacity.config_of(m, capacity.IMITATED[0], 1e-3, 0).train.steps for m in ("longer", "supervised"))
    assert longer == 4 * usual


def test_the_capacity_study_tries_every_rate_once_and_goes_on_at_the_best_one(tmp_path: Path) -> None:
    shapes, rates, seeds = capacity.SHAPES["longer"], capacity.RATES["longer"], capacity.SEEDS
    for shape, rate, seed in capacity.trainings(tmp_path, "longer"):
        line = {"method": "longer", **asdict(shape), "rate": rate, "seed": seed, "validation": -rate}
        append_json_line(tmp_path / "points.jsonl", line)
    lines = capacity.points(tmp_path)
    assert len(lines) == len(shapes) * (len(rates) + len(seeds) - 1)
    assert {line["rate"] for line in lines if line["seed"] != seeds[0]} == {min(rates)}
    assert list(capacity.trainings(tmp_path, "longer")) == []


def test_estimators_of_the_credit_study_are_settings_of_a_run() -> None:
    for kind, train in credit.KINDS.items():
        config = credit.settings(kind, 1e-3, 0)
        assert config.train.model_dump(include=set(train)) == train


def test_the_published_simulation_is_what_the_planner_computes_today() -> None:
    about, *lines = read_json_lines(RESULTS / "scale/simulation.jsonl")
    machines = {machine.name: machine for machine in simulation.machines(ROOT / "benchmarks/results")}
    for name, machine in machines.items():
        assert machine.rates.to_dict() == pytest.approx(about["rates"][name])
    for line in (lines[0], lines[5], lines[40], lines[-1]):
        machine = machines[line["machine"]]
        network = simulation.network(line["nodes"], machine.dtype, sparse=line["sparse"])
        step = simulation.step(machine, network, line["workers"])
        assert step.pop("seconds") == pytest.approx(line["seconds"], rel=1e-4, abs=1e-6)
        assert {key: line[key] for key in step} == {
            key: value if isinstance(value, str) else pytest.approx(value, rel=1e-4) for key, value in step.items()
        }


@pytest.mark.parametrize(
    ("question", "message", "true"),
    [
        ("What is (9 - 5) * 5?", "(4) * 5", True),
        ("What is (9 - 5) * 5?", "so it is 20.", True),
        ("What is (9 - 5) * 5?", "10 * 5", False),
        ("What is (9 - 5) * 5?", "(9 - 5) * 5", False),
        ("What is (2 - 5) * 3?", "2-5=-3", True),
        ("Problem: 3 - 4 + 4 - 9 =", "3 - 4 = -1, and -1 + 4 = 3", True),
        ("Calculate -( 1 * 9 ) * -1.", "9", False),
    ],
)
def test_a_message_is_worth_something_if_it_holds_a_true_value_that_the_question_does_not(
    question: str, message: str, true: bool
) -> None:
    assert prompts.is_new_and_true(question, message) is true
