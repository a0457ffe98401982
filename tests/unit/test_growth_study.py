"""The study of growth: its networks, its stages, and that the published recipe is what it measured."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from neuromas.config import RunConfig
from neuromas.network.topology import Topology
from neuromas.run.stages import check_growth, stages_of
from studies.growth import study, ways

PUBLISHED = Path(__file__).parents[2] / "recipes/tiny_compositional_grown.toml"


def config(way: str, size: int) -> RunConfig:
    return RunConfig.make(ways.run_settings("paths", way, size, 0))


def test_the_published_recipe_is_the_study_s_grown_network_of_seven() -> None:
    measured = config("fade", 7)
    assert measured.train.silence_questions == 0  # for time; the published one also tells which nodes are ignored
    measured = measured.model_copy(update={"train": measured.train.model_copy(update={"silence_questions": 32})})
    published = RunConfig.make(tomllib.loads(PUBLISHED.read_text(encoding="utf-8")))
    parts = {"task", "adapter", "sampling", "train", "topology", "seed", "backbone"}
    assert published.model_dump(include=parts) == measured.model_dump(include=parts)
    assert published.stages[:-1] == measured.stages[:-1]
    assert [s.topology for s in stages_of(published)] == [s.topology for s in stages_of(measured)]


def test_every_cell_is_a_run_that_ends_as_its_topology() -> None:
    for way, size in (cell for group in study.CELLS for cell in group):
        parts = stages_of(config(way, size))
        check_growth(parts)
        last = parts[-1]
        assert len(last.topology.nodes) == size
        if not ways.is_scratchpad(way):
            assert len(last.topology.layers) == len(Topology.parse(ways.SHAPES[size]).layers)
        assert last.settings.options == {}, "the last stage asks whole questions"


@pytest.mark.parametrize("plan", [ways.stages, ways.stages_of_sizes])
def test_where_the_last_growth_copies_the_earlier_ones_fade_in(plan: Any) -> None:
    _, parts = plan("fade+copy", 15, 160)
    grows = [s["init"] for s in parts if "init" in s]
    assert grows == ["fade"] * (len(grows) - 1) + ["copy"]
    assert len(grows) > 2
    assert parts[-1]["topology"] == ways.SHAPES[15]


@pytest.mark.parametrize("way", ["staged", "scratchpad"])
def test_a_control_gets_the_questions_and_promotions_of_the_grown_network(way: str) -> None:
    grown, control = config("fade", 7), config(way, 7)
    same = {"options", "steps", "promote", "window"}
    assert [s.model_dump(include=same) for s in grown.stages] == [s.model_dump(include=same) for s in control.stages]
    assert {len(s.topology.nodes) for s in stages_of(control)} == {7}
    copies = 1 if control.adapter.tied else 7
    assert copies * control.adapter.rank == 7 * grown.adapter.rank, "as many parameters"


def test_a_scratchpad_on_easy_questions_gets_those_of_the_network_from_scratch() -> None:
    network, pad = config("easy", 7), config("scratchpad+easy", 7)
    assert network.stages == pad.stages
    assert str(network.topology) != str(pad.topology)
    assert pad.adapter.tied
    assert pad.adapter.rank == 7 * network.adapter.rank


def test_every_cell_of_sizes_is_a_run_that_ends_as_its_topology() -> None:
    for way, size in (cell for group in study.SIZES for cell in group):
        run = RunConfig.make(ways.run_settings("sizes", way, size, 0))
        assert len(stages_of(run)[-1].topology.nodes) == size


def test_every_trial_is_a_run() -> None:
    for way, changed in study.TUNE:
        trial = RunConfig.make(ways.run_settings("paths", way, 7, study.TUNE_SEED, changed))
        assert len(stages_of(trial)[-1].topology.nodes) == 7
        assert trial.train.model_dump(include=set(changed)) == changed
        assert trial.adapter.tied == ways.is_scratchpad(way)


def test_every_reader_s_topology_grows_out_of_the_trained_one() -> None:
    parent = Topology.parse(ways.SHAPES[7])
    for target in study.READERS:
        growth = study.between(parent, Topology.parse(target))
        assert growth.topology.without(growth.units) == parent
        assert str(growth.topology) == target


def test_the_slow_way_differs_in_the_rate_after_the_last_growth_alone() -> None:
    slow, usual = (config(way, 31).stages for way in ("fade+copy+slow", "fade+copy"))
    assert slow[:-1] == usual[:-1]
    assert slow[-1] == usual[-1].model_copy(update={"learning_rate": ways.SLOW})
    rate = config("fade+copy", 31).train.learning_rate
    assert ways.SLOW == rate / 4


def test_the_plain_way_grows_as_the_grown_network_does_on_full_instances_alone() -> None:
    plain, grown = config("plain", 7), config("fade", 7)
    assert [s.topology for s in stages_of(plain)] == [s.topology for s in stages_of(grown)]
    assert all(not s.options and s.promote is None for s in plain.stages)
    assert {s.init for s in plain.stages} == {"fade"}
    assert sum(s.steps or 0 for s in plain.stages) < plain.train.steps, "the last stage has steps of its own"
