"""Specs that teach, controls that match, a report that is escaped and made of JSON lines alone."""

import gzip
import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuromas import cli
from neuromas.cli.show import PercentLines, bar
from neuromas.compare.meter import Meter, weight
from neuromas.compare.plan import Plan, Row, make_plan
from neuromas.compare.spec import Spec
from neuromas.compare.store import CHUNK, Store, check_same, lock
from neuromas.compare.work import Trial
from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, ConfigError, NeuromasError
from neuromas.evaluate.render import Heading, Table, Text, plain, to_html, to_markdown
from neuromas.evaluate.report import write_report
from neuromas.evaluate.stats import mcnemar
from neuromas.evaluate.table import read_cells, rows
from neuromas.files import read_json_lines, write_text
from neuromas.network.forward import Limits
from neuromas.network.topology import Topology
from neuromas.results import CellAnswer, CellRecord

TASK = {"name": "compositional", "options": {"depth": 2, "train_size": 200}, "questions": 70}
NETWORK = {"topology": "2"}


def data(**changes: Any) -> dict[str, Any]:
    """A spec as a mapping."""
    return {
        "seeds": [0, 1], "learning_rates": [1e-3], "tasks": [TASK], "adapter": {"rank": 4},
        "train": {"steps": 4, "questions": 2, "rollouts": 2}, "systems": {"direct": {}, "network": NETWORK},
        **changes,
    }  # fmt: skip


def plan_of(**changes: Any) -> Plan:
    return make_plan(Spec.make(data(**changes)))


def row_of(plan: Plan, name: str) -> Row:
    return next(row for row in plan.rows if row.name == name)


def recipe(plan: Plan, name: str) -> RunConfig:
    return row_of(plan, name).contender.config(plan.spec.tasks[0], 0, 1e-3)


# -- specs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"systems": {}}, "names no systems; add tables such as [systems.direct]"),
        ({"tasks": []}, "names no tasks; add a table such as [[tasks]]"),
        ({"systems": {"dircet": {}}}, "did you mean 'direct'?"),
        (
            {"systems": {"a": {"topology": "2", "stages": [{"steps": 2, "learning_rate": 1e-3}, {}]}}},
            "a learning_rate is set for 'a'",
        ),
        ({"systems": {"a": {"kind": "malt", "stages": [{"steps": 2}, {}]}}}, "systems.a.stages are set, but malt"),
        ({"systems": {"a": {"baseline": "maO"}}}, "systems.a.baseline is 'maO', which is no baseline"),
        ({"systems": {"moa": {"options": {"people": 3}}}}, "systems.moa.options has no 'people'; there is: rounds"),
        ({"systems": {"moa": {"topology": "2", "baseline": "moa"}}}, "split it in two"),
        ({"systems": {"n": {"kind": "netwrok"}}}, "did you mean 'network'?"),
        ({"systems": {"n": {"topology": "2", "seed": 3}}}, "systems.n: seed: no such setting"),
        ({"systems": {"n": {"topology": "2", "controls": ["votes"]}}}, "systems.n: controls.0 is 'votes'"),
        ({"systems": {"n": {"topology": "2", "train": {"learning_rate": 1e-3}}}}, "set learning_rates = [ … ]"),
        ({"systems": {"m": {"kind": "malt", "topology": "2"}}}, "malt has its own; leave it out"),
        ({"systems": {"m": {"kind": "malt", "options": {"beta": -1}}}}, "malt.beta is -1"),
        ({"systems": {"m": {"kind": "malt", "options": {"depth": 1}}}}, "has no 'depth'; there is: search"),
        ({"systems": {"n": {"topology": "2", "votes": [1]}}}, "a vote takes 2 or more"),
        ({"systems": {"n": {"variants": [{"checkpoint": "first"}]}}}, "systems.n: variants.0.checkpoint is 'first'"),
        ({"systems": {"n": {"variants": [{"votes": 3, "decoding": "sampled"}]}}}, "which always samples"),
        ({"systems": {"m": {"kind": "malt", "variants": [{"delivery": "blanked"}]}}}, "malt has no nodes that send"),
        ({"train": {"stop_after_seconds": 5}}, "must draw equally many samples"),
        ({"train": {"resample": 1}}, "nobody knows how many it asks for"),
        ({"train": {"stepz": 5}}, "train.stepz: no such setting"),
        ({"adapter": {"rank": 0}}, "adapter.rank is 0"),
        ({"systems": {"n": {"topology": "2-0"}}}, "systems.n.topology: layer width 0"),
        ({"seeds": []}, "seeds is []"),
        ({"seeds": [1, 1]}, "one stands there twice"),
        ({"learning_rates": [0.0]}, "each must be above 0"),
        ({"tasks": [TASK, TASK]}, "give each a label of its own"),
        ({"reference": "netwrk"}, "'netwrk', which is no row; the rows are: direct, network, single-r12"),
        ({"split": "exam"}, "split is 'exam'"),
        ({"speed": 3}, "speed: no such setting"),
        ({"systems": {"a b": {"baseline": "direct"}, "a-b": {"baseline": "moa"}}}, "are the same but for signs"),
        ({"systems": {"n": NETWORK, "m": {"topology": "1", "train": {"steps": 5}}}}, "n: 16, m: 20"),
    ],
)
def test_a_mistake_in_a_spec_is_told_with_a_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NeuromasError) as told:
        plan_of(**changes)
    assert message in str(told.value)


def test_a_spec_file_that_is_missing_or_no_toml_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; published ones are in .*recipes"):
        Spec.load(tmp_path / "none.toml")
    write_text(tmp_path / "bad.toml", "seeds = [")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        Spec.load(tmp_path / "bad.toml")


def test_tasks_and_topologies_of_a_spec_are_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "there/rows.csv", "question,answer\n" + "".join(f"{i}?,{i}\n" for i in range(40)))
    write_text(tmp_path / "there/net.toml", 'output = "b"\n[nodes]\na = []\nb = ["a"]\n')
    text = "[[tasks]]\nname = 'rows.csv'\n[systems.network]\ntopology = 'net.toml'\n"
    write_text(tmp_path / "there/spec.toml", text)
    monkeypatch.chdir(tmp_path)
    spec = Spec.load(Path("there/spec.toml"))
    assert spec.tasks[0].title == "rows.csv"  # a report names no folder of the machine
    assert spec.tasks[0].name == "there/rows.csv" and spec.systems["network"].topology == "there/net.toml"


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", [*RECIPES.glob("compare_*.toml"), *RECIPES.glob("paper_*.toml")], ids=lambda p: p.stem)
def test_published_specs_are_valid_and_have_three_seeds_or_say_that_they_have_one(path: Path) -> None:
    plan = make_plan(Spec.load(path))
    told = path.read_text(encoding="utf-8").split("title =")[0]
    assert len(plan.spec.seeds) >= 3 or (len(plan.spec.seeds) == 1 and "one seed" in told)
    assert max(plan.samples.values()) <= 1.02 * min(plan.samples.values())


# -- matched controls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["2", "1-1", "2-2", "3-2@first"])
def test_controls_match_calls_parameters_and_samples_by_default(topology: str) -> None:
    plan = plan_of(systems={"network": {"topology": topology}})
    nodes = len(Topology.parse(topology).nodes)
    names = [row.name for row in plan.rows]
    pad = f"scratchpad-{nodes}-r{4 * nodes}"
    assert names == [
        "network",
        f"single-r{4 * nodes}",
        f"single-r{4 * nodes}, vote of {nodes}",
        pad,
        "network, blanked",
    ]
    adapters = {
        row.name: (1 if (c := recipe(plan, row.name)).adapter.tied else len(Topology.parse(c.topology).nodes))
        * c.adapter.rank
        for row in plan.rows
    }
    assert set(adapters.values()) == {4 * nodes}, "adapters of a rank are as many times larger"
    assert set(plan.samples.values()) == {16}
    assert row_of(plan, names[2]).variant.votes == nodes
    assert len(Topology.parse(recipe(plan, pad).topology).nodes) == nodes
    assert recipe(plan, pad).adapter.tied
    for row in plan.rows:
        mine, base = recipe(plan, row.name), recipe(plan, "network")
        assert (mine.train, mine.sampling, mine.task, mine.adapter.targets) == (
            base.train, base.sampling, base.task, base.adapter.targets,
        )  # fmt: skip
        assert (mine.adapter.alpha or 2 * mine.adapter.rank) / mine.adapter.rank == 2


def test_controls_can_be_switched_off_and_one_model_has_none() -> None:
    names = lambda **entry: [row.name for row in plan_of(systems={"network": entry}).rows]
    assert names(topology="2", controls=[]) == ["network"]
    assert names(topology="2", controls=["blanked", "vote"]) == ["network", "network, blanked", "single-r12, vote of 3"]
    assert names(topology="single") == ["network"]


def test_one_word_sets_up_every_fair_control() -> None:
    entry = {"topology": "1-1", "controls": "all", "sampling": {"message_tokens": 16}}
    plan = plan_of(systems={"network": entry})
    assert {row.name: row.control_for for row in plan.rows} == {
        "network": [],
        "single-r12": ["same parameters as network"],
        "single-r12-thinks": ["same parameters as network, its tokens in one reply"],
        "single-r12, vote of 3": ["same calls as network"],
        "scratchpad-3-r12": ["same calls, tokens and parameters in one adapter as network"],
        "network, untrained": ["network before training"],
        "network, blanked": ["network silenced"],
    }
    written = {
        row.name: Limits.from_config(c.sampling, 4).answer_tokens + 16 * (len(Topology.parse(c.topology).nodes) - 1)
        for row in plan.rows if (c := recipe(plan, row.name)) and row.name != "single-r12" and row.variant.votes == 1
    }  # fmt: skip
    assert set(written.values()) == {36}, "all may write as many tokens"
    assert row_of(plan, "single-r12-thinks").about == "trained network single, rank 12, 32 tokens to think"
    assert not row_of(plan, "network, untrained").prepared
    assert set(plan.samples.values()) == {16}


def test_controls_begin_as_the_network_does_and_learn_from_the_same_questions() -> None:
    stages = [{"options": {"depth": 1}, "promote": 0.5}, {"topology": "2", "init": "zero", "steps": 2}]
    network = {"topology": "1", "stages": stages, "adapter": {"init_from": "lora"}}
    plan = plan_of(systems={"network": network})
    for name in ("single-r12", "scratchpad-3-r12"):
        config = recipe(plan, name)
        assert config.adapter.init_from == "lora" and row_of(plan, name).about.endswith("from lora")
        assert [(s.options, s.promote, s.topology, s.init) for s in config.stages] == [
            ({"depth": 1}, 0.5, None, "fade"), ({}, None, None, "fade"),
        ]  # fmt: skip
    named = {"topology": "1", "adapter": {"init_from": {"1.1": "lora"}}}
    assert recipe(plan_of(systems={"network": named}), "single-r8").adapter.init_from is None, "it has no node 1.1"


def test_controls_of_a_network_that_grows_match_its_final_size() -> None:
    grown = {"topology": "2", "stages": [{"steps": 2}, {"topology": "2-2", "init": "zero"}]}
    plan = plan_of(systems={"network": grown})
    assert [row.name for row in plan.rows] == [
        "network", "single-r20", "single-r20, vote of 5", "scratchpad-5-r20", "network, blanked",
    ]  # fmt: skip
    assert [stage.topology for stage in recipe(plan, "network").stages] == [None, "2-2"]
    assert not recipe(plan, "single-r20").stages
    assert not recipe(plan, "scratchpad-5-r20").stages
    assert row_of(plan, "network").about == "trained network 2 → 2-2, rank 4"


def test_variants_are_further_rows_of_the_same_system() -> None:
    variants = [
        {"decoding": "sampled"}, {"checkpoint": "last"}, {"checkpoint": "untrained", "delivery": "blanked"},
        {"votes": 5}, {"delivery": "blanked"},
    ]  # fmt: skip
    plan = plan_of(systems={"network": {"topology": "2", "votes": [5], "variants": variants, "controls": ["blanked"]}})
    assert {row.name: (row.prepared, row.about) for row in plan.rows} == {
        "network": (True, "trained network 2, rank 4"),
        "network, vote of 5": (True, "trained network 2, rank 4"),
        "network, sampled": (True, "trained network 2, rank 4"),
        "network, last checkpoint": (True, "trained network 2, rank 4, last checkpoint"),
        "network, untrained, blanked": (False, "untrained network 2, rank 4"),
        "network, blanked": (True, "trained network 2, rank 4"),
    }
    assert row_of(plan, "network, blanked").control_for == ["network silenced"]


def test_networks_of_one_size_share_controls_and_a_system_of_the_spec_may_be_one() -> None:
    plan = plan_of(
        systems={
            "wide": {"topology": "2"}, "deep": {"topology": "1-1"},
            "rl": {"topology": "single", "adapter": {"rank": 12}}, "long": {"topology": "3", "adapter": {"rank": 3}},
        }
    )  # fmt: skip
    assert [row.name for row in plan.rows] == [
        "wide", "deep", "rl", "long", "rl, vote of 3", "scratchpad-3-r12", "wide, blanked", "deep, blanked",
        "rl, vote of 4", "scratchpad-4-r12", "long, blanked",
    ]  # fmt: skip
    assert row_of(plan, "rl").control_for == [f"same parameters as {name}" for name in ("wide", "deep", "long")]
    assert row_of(plan, "scratchpad-3-r12").control_for == [
        f"same calls, tokens and parameters in one adapter as {name}" for name in ("wide", "deep")
    ]


def test_unequal_samples_are_refused_unless_allowed_and_the_reference_is_a_row() -> None:
    systems = {"n": NETWORK, "m": {"topology": "1", "train": {"steps": 5}}}
    plan = plan_of(systems=systems, unequal_samples=True, reference="m")
    assert {plan.samples["n"], plan.samples["m"]} == {16, 20}
    assert [row.name for row in plan.rows if row.reference] == ["m"]
    assert [row.name for row in plan_of().rows if row.reference] == ["network"], "the first trained one by default"


# -- the folder ----------------------------------------------------------------------------------------------


def cell(system: str, seed: int, n: int, **facts: Any) -> dict[str, Any]:
    return {
        "comparison": "Two systems", "system": system, "task": "letters", "seed": seed, "split": "test",
        "task_version": 1, "n": n, "backbone": "fake", "about": "made up", "control_for": [], "delivery": "as sent",
        "floors": {"chance": 0.25, "majority": 0.2, "best_constant": 0.4, "constant_answer": "A"}, "samples": 0,
        "matched_samples": True,
        "reference": system == "one", "learning_rate": None, "validation_by_rate": {}, "note": "",
        "decoding": "greedy", "trainable_parameters": 0, **facts,
    }  # fmt: skip


def line(system: str, seed: int, index: int, reward: float, reply: str = "A") -> dict[str, Any]:
    return {
        "system": system, "task": "letters", "seed": seed, "index": index, "id": f"q{index}", "answer": "A",
        "parsed": reply, "reward": reward, "reply": reply, "calls": 2, "sequential_calls": 1, "generated_tokens": 6,
        "sequential_tokens": 4, "prompt_tokens": 9, "dropped_tokens": 0, "messages": [],
    }  # fmt: skip


def jsonl(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def write(folder: Path, cells: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
    write_text(folder / "cells.jsonl", jsonl(cells))
    write_text(folder / "answers.jsonl", jsonl(lines))


def test_a_cut_off_line_and_chunks_that_are_not_whole_are_dropped_and_asked_again(tmp_path: Path) -> None:
    n = CHUNK + 6
    whole = [line("one", 0, i, 1.0) for i in range(CHUNK)]
    write(tmp_path, [cell("one", 0, n)], [*whole, *(line("one", 0, CHUNK + i, 0.0) for i in range(3))])
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"system": "one", "task": "let')
    store = Store(tmp_path)
    key = ("one", "letters", 0)
    assert (store.has(key, 0), store.has(key, 1)) == (True, False)
    assert read_json_lines(tmp_path / "answers.jsonl") == whole
    planned = CellRecord.from_dict(cell("one", 0, n))
    store.add(planned, [CellAnswer.from_dict(line("one", 0, CHUNK + i, 0.0)) for i in range(6)])
    assert store.has(key, 1)
    store.finish([replace(planned, decoding=None, note="said later")])
    (kept,) = read_json_lines(tmp_path / "cells.jsonl")
    assert (kept["decoding"], kept["note"]) == ("greedy", "said later")
    assert [a["index"] for a in read_json_lines(tmp_path / "answers.jsonl")] == [*range(n)]


def _without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _spoilt(name: str, number: int, by: bytes) -> Callable[[Path], object]:
    """One byte in the middle of a line is another."""

    def spoil(folder: Path) -> None:
        lines = (folder / name).read_bytes().split(b"\n")
        half = len(lines[number]) // 2
        lines[number] = lines[number][:half] + by + lines[number][half + 1 :]
        (folder / name).write_bytes(b"\n".join(lines))

    return spoil


@pytest.mark.parametrize(
    "spoil, said",
    [
        (_without("cells.jsonl"), "answers of one, letters, 0, and cells.jsonl has no such cell"),
        (_spoilt("cells.jsonl", 0, b"\x00"), "cells.jsonl, line 1 is damaged"),
        (_spoilt("answers.jsonl", 1, b"\xff"), "answers.jsonl, line 2 is damaged"),
        (_spoilt("answers.jsonl", 6, b"\n"), "answers.jsonl, line 7 is damaged"),
    ],
)
def test_damage_of_a_comparison_is_named_and_loses_no_answer(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    cells = [cell(name, 0, 5) for name in ("one", "two")]
    write(tmp_path, cells, [line(name, 0, i, 1.0) for name in ("one", "two") for i in range(5)])
    spoil(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for reading in (Store, read_cells):
        with pytest.raises(CheckpointError, match=said):
            reading(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_comparison_is_refused_but_systems_seeds_and_tasks_may_be_added(tmp_path: Path) -> None:
    check_same(Spec.make(data()), tmp_path / "out")
    more = {"systems": {"direct": {}, "network": NETWORK, "moa": {}}, "seeds": [0, 1, 2], "title": "More"}
    check_same(Spec.make(data(**more)), tmp_path / "out")
    for changes in (
        {"seeds": [1, 0]},
        {"learning_rates": [1e-3, 2e-3]},
        {"adapter": {"rank": 2}},
        {"systems": {"moa": {}}},
    ):
        with pytest.raises(ConfigError, match=f"other settings: {next(iter(changes))} was"):
            check_same(Spec.make(data(**more | changes)), tmp_path / "out")
    write_text(tmp_path / "mine" / "diary.txt", "")
    with pytest.raises(ConfigError, match="holds something else"):
        check_same(Spec.make(data()), tmp_path / "mine")


def test_a_comparison_of_version_0_1_0_goes_on_though_systems_have_settings_that_it_did_not_know(
    tmp_path: Path,
) -> None:
    spec = Spec.make(data())
    saved = spec.model_dump(mode="json")
    del saved["systems"]["network"]["variants"]
    write_text(tmp_path / "spec.json", json.dumps(saved))
    check_same(spec, tmp_path)
    assert json.loads((tmp_path / "spec.json").read_text()) == spec.model_dump(mode="json")
    write_text(tmp_path / "spec.json", '{"diary": 1}')
    with pytest.raises(ConfigError, match="is no spec of a comparison"):
        check_same(spec, tmp_path)


def test_two_comparisons_cannot_work_in_one_folder(tmp_path: Path) -> None:
    held = lock(tmp_path)
    with pytest.raises(ConfigError, match="another comparison is at work"):
        lock(tmp_path)
    held.close()
    lock(tmp_path).close()


# -- the figures ---------------------------------------------------------------------------------------------


def test_seeds_are_pooled_question_by_question_and_n_is_not_multiplied(tmp_path: Path) -> None:
    ones = [
        line("one", s, i, r) for s, rewards in enumerate([[1, 1, 0, 1], [1, 0, 0, 1]]) for i, r in enumerate(rewards)
    ]
    two = [line("two", 0, i, r) for i, r in enumerate([0, 0, 0, 1])]
    write(tmp_path, [cell("one", 0, 4), cell("one", 1, 4), cell("two", 0, 4)], ones + two)
    first, second = rows(read_cells(tmp_path))
    assert (first.accuracy, first.n, first.seeds, first.by_seed) == (0.625, 4, 2, [0.75, 0.5])
    assert (first.sequential_tokens, first.versus_reference) == (4, None)
    test = second.versus_reference
    assert test is not None
    assert test.difference == pytest.approx(-(1 + 0.5 + 0 + 0) / 4)
    assert (test.test, test.p_holm) == ("paired bootstrap", test.p)


def test_one_seed_of_rights_and_wrongs_is_tested_by_mcnemar_and_corrected_over_the_rows(tmp_path: Path) -> None:
    names = {"one": [1] * 9 + [0], "two": [0] * 8 + [1, 1], "three": [1] * 9 + [0]}
    lines = [line(name, 0, i, r) for name, rewards in names.items() for i, r in enumerate(rewards)]
    write(tmp_path, [cell(name, 0, 10) for name in names], lines)
    _, two, three = rows(read_cells(tmp_path))
    assert two.versus_reference is not None and three.versus_reference is not None
    assert (two.versus_reference.test, two.versus_reference.p) == ("McNemar", mcnemar(1, 8))
    assert two.versus_reference.p_holm == pytest.approx(2 * mcnemar(1, 8))
    assert (three.versus_reference.difference, three.versus_reference.p) == (0, 1)


def test_cells_that_are_not_complete_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [cell("one", 0, 2), cell("two", 0, 2)], [line("one", 0, 0, 1.0), line("one", 0, 1, 1.0)])
    assert [row.system for row in rows(read_cells(tmp_path))] == ["one"]
    write(tmp_path, [cell("one", 0, 2)], [])
    with pytest.raises(ConfigError, match="holds no complete cell"):
        read_cells(tmp_path)


def test_answers_whose_messages_were_not_published_are_scored(tmp_path: Path) -> None:
    """A comparison in docs/results on a benchmark keeps neither replies nor messages."""
    write(tmp_path, [cell("one", 0, 2)], [line("one", 0, i, 1.0, "") | {"messages": None} for i in range(2)])
    assert [row.accuracy for row in rows(read_cells(tmp_path))] == [1.0]


PUBLISHED = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PUBLISHED.glob("*/cells.jsonl")))
def test_a_published_comparison_is_reported_on_to_the_same_figures(name: str, tmp_path: Path) -> None:
    for file in ("cells.jsonl", "answers.jsonl.gz"):
        shutil.copy(PUBLISHED / name / file, tmp_path / file)
    write_report(tmp_path)
    for file in ("summary.json", "report.md"):
        assert (tmp_path / file).read_bytes() == (PUBLISHED / name / file).read_bytes(), file


# -- the report ----------------------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script><img src=\"http://evil.example/x.png\" onerror='x()'> | [a](http://evil.example) `b` "
    '**c** ![i](https://evil.example/i.png) <!-- \n\n# H1 \x1b[31m \u202eabc & &lt; "quoted" $x^2$ \\ www.evil.example'
)
REPORT = ("results.json", "summary.json", "report.md", "report.html", "accuracy_cost.png")


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    lines = [line(name, 0, i, float(i % 2), HOSTILE) for name in ("one", HOSTILE) for i in range(4)]
    cells = [cell(name, 0, 4, comparison=HOSTILE, about=HOSTILE, note=HOSTILE) for name in ("one", HOSTILE)]
    write(tmp_path / "a", cells, lines)
    write_report(tmp_path / "a")
    return tmp_path / "a"


def test_a_report_is_made_of_the_json_lines_alone_to_the_same_bytes(reported: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("cells.jsonl", "answers.jsonl"):
        shutil.copy(reported / name, tmp_path / "b" / name)
    cli.main(["compare", str(tmp_path / "b"), "--report"])
    for name in REPORT:
        assert (reported / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    packed = tmp_path / "b" / "answers.jsonl"
    packed.with_suffix(".jsonl.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    cli.main(["compare", str(tmp_path / "b"), "--report"])
    assert (reported / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes(), "gzipped too"


def test_a_report_shows_hostile_text_as_text_and_loads_nothing(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z0-9!]+)", page))
    known = "!doctype html head meta title style body main h1 h2 h3 p div table thead tbody tr th td img"
    assert tags <= set(known.split())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    outside = re.sub(r'src="data:image/png;base64,[A-Za-z0-9+/=]*"', "", page)
    assert not re.findall(
        r"""(?:src|href|srcset|action|data|poster)\s*=\s*["']?""", re.sub(r"&lt;.*?&gt;", "", outside)
    )
    assert not re.findall(r"url\(|@import|<link|javascript:", outside)
    assert page.count("<img") == 1
    assert "default-src 'none'" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    text = (reported / "report.md").read_text()
    assert "<" not in text.replace("&lt;", "")
    assert not re.findall(r"(?<!\\)`|(?<!\\)\]\((?!accuracy_cost\.png)|https?://|www\.", text)
    tables = [row for row in text.splitlines() if row.startswith("|")]
    heads = [len(re.findall(r"(?<!\\)\|", row)) for row in tables]
    assert set(heads) <= {6, 9, 13, 5}, "no cell breaks its row"


def test_markdown_and_html_say_the_same() -> None:
    blocks = [Heading("A & B", 1), Text("x < y"), Table(["s", "n"], [["a|b", "1"], ["c", "2"]], strong=frozenset({1}))]
    assert to_markdown(blocks) == (
        "# A &amp; B\n\nx &lt; y\n\n| s | n |\n| --- | ---: |\n| a\\|b | 1 |\n| **c** | **2** |\n"
    )
    page = to_html(blocks, "t")
    assert '<td class="words">a|b</td><td>1</td></tr>' in page
    assert '<tr class="strong"><td class="words">c</td>' in page
    assert plain(" a\n\tb\x07 ") == "a b\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "args, message",
    [
        (["nowhere.toml", "--out", "x"], "does not exist"),
        (["nowhere.toml"], "give a folder with --out DIR"),
        (["nowhere.toml", "--report"], "--report needs the folder"),
        (["nowhere.toml", "--out", "x", "--workers", "0"], "--workers is 0"),
        (["."], "is a folder; give the spec and --out"),
        ([".", "--report"], "holds no complete cell"),
    ],
)
def test_mistakes_on_the_command_line_are_told(
    args: list[str], message: str, capsys: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", *args])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# -- progress ------------------------------------------------------------------------------------------------


def test_a_comparison_tells_at_once_how_much_there_is() -> None:
    told: list[tuple[str, float, float]] = []
    with Meter(lambda *how: told.append(how), 3.0, 10.0):
        pass
    assert told == [("starting", 3.0, 10.0)]


def test_a_comparison_tells_where_a_training_stands(tmp_path: Path) -> None:
    plan, told = plan_of(), list[tuple[str, float, float]]()
    trial = Trial(tmp_path, row_of(plan, "network").contender, plan.spec.tasks[0], 1, 1e-3)
    log = trial.folder / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    for written in ("", '{"step": 0}\n', '{"step": 1, "reward": 0.25}\n', '{"step": 2, "rew'):
        with log.open("a") as file:
            file.write(written)
        meter = Meter(lambda *how: told.append(how), 0.0, weight(trial))
        meter.begin([trial])
        with meter:
            pass
    at = "network on compositional, seed 1, rate 0.001: step"
    assert [name for name, *_ in told] == ["starting", f"{at} 0 of 4", *[f"{at} 1 of 4, sampled reward 0.25"] * 2]
    assert [done / total for _, done, total in told] == [0, 0, 0.25, 0.25]


def test_without_a_terminal_every_tenth_is_a_line_and_so_are_two_silent_minutes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines = PercentLines()
    for done in range(101):
        now += 1
        lines("job", done, 100)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [str(n) for n in range(0, 101, 10)]
    lines = PercentLines()
    for _ in range(301):
        lines("job", 1, 100)
        now += 1
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == ["0", "120", "240"]
    with bar("passes") as on_pass:
        for done in range(301):
            on_pass(done, 300)
            now += 1
    shown = capsys.readouterr()  # a short job says nothing, and results on standard output stay alone
    assert (shown.out, shown.err.splitlines()) == ("", [" 40 % after 120 s (passes)", " 80 % after 240 s (passes)"])


def test_shares_of_answers_that_could_not_be_read_whole_stand_in_the_report_and_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = {"messages": [{"node": "out", "text": "A", "truncated": True}]}
    told = [cut, {"ambiguous": True, "parsed": None}, {"reply": "<think>A", "parsed": None}, {}]
    lines = [line("one", s, i, 0.0) | (more if s == 0 else {}) for s in range(2) for i, more in enumerate(told)]
    write(
        tmp_path,
        [cell("one", 0, 4), cell("one", 1, 4), cell("two", 0, 4)],
        lines + [line("two", 0, i, 0.0) for i in range(4)],
    )
    one, two = rows(read_cells(tmp_path))
    assert (one.answers_cut, one.ambiguous, one.thoughts_cut) == (1 / 8, 1 / 8, 1 / 8)
    assert (two.answers_cut, two.ambiguous, two.thoughts_cut) == (None, None, None)
    cli.main(["compare", str(tmp_path), "--report"])
    shown = capsys.readouterr().out
    for text in (shown, (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()):
        assert "12% of the answers commit to several at once" in text
        assert "12% of the answers were cut by the token limit" in text
        assert "12% of the answers have nothing behind their thoughts" in text
        assert "two: " not in text and "two, greedy: " not in text
