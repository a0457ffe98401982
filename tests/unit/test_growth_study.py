"""The study of growth: its networks, its stages, and that the published recipe is what it measured."""

from types import ModuleType

import pytest

from helpers import tool
from neuromas.config import RunConfig
from neuromas.network.topology import Topology
from neuromas.run.stages import check_growth, stages_of


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return tool("growth_study")


@pytest.fixture(scope="module")
def ways() -> ModuleType:
    return tool("growth_ways")


def config(ways: ModuleType, way: str, size: int) -> RunConfig:
    return RunConfig.make(ways.run("paths", way, size, 0))


def test_the_published_recipe_is_the_study_s_grown_network_of_seven(ways: ModuleType) -> None:
    measured = config(ways, "fade", 7)
    assert measured.train.silence_questions == 0  # for time; the published one also tells which nodes are ignored
    measured = measured.model_copy(update={"train": measured.train.model_copy(update={"silence_questions": 32})})
    published = RunConfig.make(ways.recipe("tiny_compositional_grown"))
    parts = {"task", "adapter", "sampling", "train", "topology", "seed", "backbone"}
    assert published.model_dump(include=parts) == measured.model_dump(include=parts)
    assert published.stages[:-1] == measured.stages[:-1]
    assert [s.topology for s in stages_of(published)] == [s.topology for s in stages_of(measured)]


def test_every_cell_is_a_run_that_ends_as_its_topology(study: ModuleType, ways: ModuleType) -> None:
    for way, size in (cell for group in study.CELLS for cell in group):
        parts = stages_of(config(ways, way, size))
        check_growth(parts)
        last = parts[-1]
        assert len(last.topology.nodes) == size
        if not ways.is_scratchpad(way):
            assert len(last.topology.layers) == len(Topology.parse(ways.SHAPES[size]).layers)
        assert last.settings.options == {}, "the last stage asks whole questions"


@pytest.mark.parametrize("plan", ["stages", "sizes"])
def test_where_the_last_growth_copies_the_earlier_ones_fade_in(ways: ModuleType, plan: str) -> None:
    _, parts = getattr(ways, plan)("fade+copy", 15, 160)
    grows = [s["init"] for s in parts if "init" in s]
    assert grows == ["fade"] * (len(grows) - 1) + ["copy"]
    assert len(grows) > 2
    assert parts[-1]["topology"] == ways.SHAPES[15]


@pytest.mark.parametrize("way", ["staged", "scratchpad"])
def test_a_control_gets_the_questions_and_promotions_of_the_grown_network(ways: ModuleType, way: str) -> None:
    grown, control = config(ways, "fade", 7), config(ways, way, 7)
    same = {"options", "steps", "promote", "window"}
    assert [s.model_dump(include=same) for s in grown.stages] == [s.model_dump(include=same) for s in control.stages]
    assert {len(s.topology.nodes) for s in stages_of(control)} == {7}
    copies = 1 if control.adapter.tied else 7
    assert copies * control.adapter.rank == 7 * grown.adapter.rank, "as many parameters"


def test_a_scratchpad_on_easy_questions_gets_those_of_the_network_from_scratch(ways: ModuleType) -> None:
    network, pad = config(ways, "easy", 7), config(ways, "scratchpad+easy", 7)
    assert network.stages == pad.stages
    assert str(network.topology) != str(pad.topology)
    assert pad.adapter.tied
    assert pad.adapter.rank == 7 * network.adapter.rank


def test_every_trial_is_a_run(study: ModuleType, ways: ModuleType) -> None:
    for way, changed in study.TUNE:
        trial = RunConfig.make(ways.run("paths", way, 7, study.TUNE_SEED, changed))
        assert len(stages_of(trial)[-1].topology.nodes) == 7
        assert trial.train.model_dump(include=set(changed)) == changed
        assert trial.adapter.tied == ways.is_scratchpad(way)


def test_every_reader_s_topology_grows_out_of_the_trained_one(study: ModuleType, ways: ModuleType) -> None:
    parent = Topology.parse(ways.SHAPES[7])
    for target in study.READERS:
        growth = study.between(parent, Topology.parse(target))
        assert growth.topology.without(growth.units) == parent
        assert str(growth.topology) == target


def test_the_slow_way_differs_in_the_rate_after_the_last_growth_alone(ways: ModuleType) -> None:
    slow, usual = (config(ways, way, 31).stages for way in ("fade+copy+slow", "fade+copy"))
    assert slow[:-1] == usual[:-1]
    assert slow[-1] == usual[-1].model_copy(update={"learning_rate": ways.SLOW})
    rate = config(ways, "fade+copy", 31).train.learning_rate
    assert ways.SLOW == rate / 4


def test_the_plain_way_grows_as_the_grown_network_does_on_full_instances_alone(ways: ModuleType) -> None:
    plain, grown = config(ways, "plain", 7), config(ways, "fade", 7)
    assert [s.topology for s in stages_of(plain)] == [s.topology for s in stages_of(grown)]
    assert all(not s.options and s.promote is None for s in plain.stages)
    assert {s.init for s in plain.stages} == {"fade"}
    assert sum(s.steps or 0 for s in plain.stages) < plain.train.steps, "the last stage has steps of its own"
