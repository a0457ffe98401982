"""Stages: what each trains, who is absent, when it ends; and recipes that say what cannot be."""

from collections import Counter
from typing import Any

import pytest

from helpers import run_config
from neuromas.config import RunConfig, StageConfig
from neuromas.errors import ConfigError, TopologyError
from neuromas.network.growth import between
from neuromas.network.topology import Topology, Unit
from neuromas.run.stages import Stage, absent, check_growth, stages_of
from neuromas.train.schedule import learning_rate

ROWS = [(f"q{i}", g) for i in range(100) for g in range(8)]


def stage(parent: str = "1-1", target: str = "2-2", **settings: Any) -> Stage:
    growth = between(Topology.parse(parent), Topology.parse(target))
    return Stage(1, StageConfig(**settings), growth.topology, growth if growth.units else None)


def missing(of: Stage, k: int, dropout: float = 0.0, seed: int = 0, step: int = 7) -> list[frozenset[Unit]]:
    found = absent(of, k, dropout, seed=seed, step=step)
    return [frozenset(found(*row) if callable(found) else found) for row in ROWS]


def chain(*stages: dict[str, Any], **changes: Any) -> RunConfig:
    return run_config(stages=list(stages), **changes)


# -- alpha --------------------------------------------------------------------------------------------------


def test_alpha_rises_to_1_in_as_many_steps_as_asked_and_only_where_something_fades_in() -> None:
    fading = stage(init="fade", anneal=4)
    assert [fading.alpha(k) for k in range(1, 7)] == [0.25, 0.5, 0.75, 1, 1, 1]
    for other in (stage(init="fade", anneal=0), stage(init="zero"), stage(init="copy"), stage("1-1", "1-1")):
        assert other.alpha(1) == 1


def test_what_grew_is_present_in_a_share_alpha_of_the_rollouts_and_all_of_it_or_nothing() -> None:
    fading = stage(init="fade", anneal=4)
    assert fading.growth is not None
    for k in (1, 2, 3):
        counts = Counter(missing(fading, k))
        assert set(counts) == {frozenset(), fading.growth.units}
        assert counts[frozenset()] / len(ROWS) == pytest.approx(k / 4, abs=0.06)  # 3.5 standard errors
    assert absent(fading, 4, 0.0, seed=0, step=7) == ()


def test_who_is_absent_is_a_function_of_seed_step_question_and_rollout() -> None:
    fading = stage(init="fade", anneal=4)
    once = missing(fading, 2, 0.2)
    assert once == missing(fading, 2, 0.2)
    assert once != missing(fading, 2, 0.2, seed=1)
    assert once != missing(fading, 2, 0.2, step=8)
    assert len(set(once[:8])) > 1, "the rollouts of one question differ"


# -- dropout ------------------------------------------------------------------------------------------------


def test_dropout_withholds_every_hidden_node_alike_and_independently_and_never_the_output() -> None:
    found = missing(stage("2-2", "2-2"), 1, dropout=0.25)
    share = lambda *nodes: sum(set(nodes) <= units for units in found) / len(ROWS)
    for node in ("1.1", "1.2", "2.1", "2.2"):
        assert share(node) == pytest.approx(0.25, abs=0.055)
    assert share("1.1", "1.2") == pytest.approx(0.0625, abs=0.03)
    assert share("1.1", "2.1", "1.2", "2.2") < 0.02
    assert share("out") == 0


def test_dropout_and_fading_go_together() -> None:
    fading = stage(init="fade", anneal=4)
    assert fading.growth is not None
    found = missing(fading, 2, dropout=0.25)
    assert sum(fading.growth.units <= units for units in found) / len(ROWS) == pytest.approx(0.5, abs=0.08)
    assert sum("1.1" in units for units in found) / len(ROWS) == pytest.approx(0.25, abs=0.055)


def test_where_too_little_would_remain_nobody_is_withheld() -> None:
    narrow = Topology.parse("1-1@first")  # without 1.1, 2.1 has nothing to read; without both, the output
    found = missing(Stage(0, StageConfig(), narrow), 1, dropout=0.4)
    assert set(found) == {frozenset(), frozenset({"2.1"})}


# -- learning rates -----------------------------------------------------------------------------------------


def test_old_nodes_are_frozen_then_learn_at_their_own_rate_and_the_output_at_the_full_one() -> None:
    slow = stage(freeze=2, old_scale=0.3)
    assert slow.scales(1) == slow.scales(2) == {"1.1": 0.0, "2.1": 0.0, "out": 0.0}
    assert slow.scales(3) == {"1.1": 0.3, "2.1": 0.3, "out": 1.0}
    assert Stage(0, StageConfig(freeze=2), Topology.parse("2")).scales(1) == {}, "in the first stage nothing is old"


def test_the_learning_rate_warms_up_anew_in_every_stage() -> None:
    config = run_config(train__learning_rate=1.0, train__warmup=4)
    assert [learning_rate(config, step, start=10) for step in (11, 12, 14, 15)] == [0.25, 0.5, 1, 1]


# -- when a stage ends --------------------------------------------------------------------------------------


def ends(of: Stage, rewards: list[float]) -> int | None:
    """The step of the stage after which it is over."""
    steps = range(1, len(rewards) + 1)
    return next((k for k in steps if of.over(rewards[max(0, k - of.settings.window) : k], k)), None)


def test_a_stage_is_promoted_when_the_mean_reward_of_a_whole_window_reaches_the_mark() -> None:
    rewards = [0.9, 0.1, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert ends(Stage(0, StageConfig(promote=0.6, window=3), Topology.parse("2")), rewards) == 6
    assert ends(Stage(0, StageConfig(promote=0.9, window=1), Topology.parse("2")), rewards) == 1
    assert ends(Stage(0, StageConfig(promote=0.95, window=2), Topology.parse("2")), rewards) is None


def test_only_steps_in_which_everything_was_present_count_for_a_promotion() -> None:
    assert ends(stage(init="fade", anneal=4, promote=0.5, window=2), [1.0] * 9) == 5  # steps 4 and 5 are whole
    assert ends(stage(init="copy", anneal=4, promote=0.5, window=2), [1.0] * 9) == 2


def test_a_stage_ends_at_its_most_steps_promoted_or_not() -> None:
    assert ends(Stage(0, StageConfig(steps=3), Topology.parse("2")), [0.0] * 9) == 3
    assert ends(Stage(0, StageConfig(steps=3, promote=0.9, window=2), Topology.parse("2")), [0.0] * 9) == 3
    assert ends(Stage(0, StageConfig(steps=3, promote=0.9, window=2), Topology.parse("2")), [1.0] * 9) == 2
    assert ends(Stage(0, StageConfig(), Topology.parse("2")), [1.0] * 50) is None


# -- recipes ------------------------------------------------------------------------------------------------


def test_the_stages_of_a_recipe_grow_out_of_each_other_and_what_is_not_said_stays() -> None:
    config = chain(
        {"steps": 2}, {"topology": "2-1", "steps": 2}, {"options": {"depth": 3}, "steps": 1}, {"topology": [3, 1]}
    )
    found = stages_of(config)
    assert [s.topology.name for s in found] == ["1", "2-1", "2-1", "3-1"]
    assert [s.growth and s.growth.nodes for s in found] == [None, ("1.2", "2.1"), None, ("1.3",)]
    assert [s.number for s in found] == [0, 1, 2, 3]


def test_a_run_without_stages_is_one_stage_that_never_ends() -> None:
    (only,) = stages_of(run_config(topology="2-2"))
    assert (only.topology.name, only.growth, only.over([1.0] * 99, 99)) == ("2-2", None, False)


def test_old_nodes_that_moved_keep_their_ids_through_later_stages() -> None:
    found = stages_of(chain({"steps": 1}, {"topology": "1-2", "steps": 1}, {"topology": "1-3"}, topology="2"))
    assert found[1].topology.layers == (("3.1",), ("1.1", "1.2"), ("out",))
    assert [*map(len, found[2].topology.layers)] == [1, 3, 1]
    assert found[2].topology.layers[0] == ("3.1",)
    assert {"1.1", "1.2"} < set(found[2].topology.layers[1])


def test_a_topology_that_does_not_contain_the_one_before_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(TopologyError, match="1 does not contain 2-2"):
        stages_of(chain({"topology": "2-2", "steps": 1}, {"topology": "1"}))


@pytest.mark.parametrize(
    ("stages", "named"),
    [
        ([{"freeze": 5}], r"stages\[0\].freeze is 5, but in this stage nothing grows; leave it out"),
        ([{"init": "copy"}], r"stages\[0\].init is 'copy'"),
        ([{"steps": 1}, {"topology": "2", "old_scale": 0.0}], r"stages\[1\].old_scale is 0.0"),
        (
            [{"steps": 1}, {"topology": "3", "init": "zero", "anneal": 5}],
            r"stages\[1\].anneal is 5, but init is 'zero'",
        ),
    ],
)
def test_what_would_have_no_effect_on_a_stage_is_refused(stages: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_growth(stages_of(chain(*stages, topology="2")))


def test_what_has_an_effect_on_a_stage_is_taken() -> None:
    fading = {"topology": "3", "anneal": 5, "freeze": 1, "old_scale": 0.3, "steps": 1}
    copied = {"topology": "6", "init": "copy", "freeze": 1, "old_scale": 0.3}
    check_growth(stages_of(chain({"steps": 1}, fading, copied, topology="2")))
    check_growth(stages_of(run_config()))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: chain({}, {"topology": "2"}), r"stages\[0\] has neither steps nor promote"),
        (lambda: chain({"steps": 0}), "stages.0.steps is 0"),
        (lambda: chain({"promote": 1.5}), "stages.0.promote is 1.5"),
        (lambda: chain({"init": "random"}), "stages.0.init is 'random'"),
        (lambda: chain({"anneal": -1}), "stages.0.anneal is -1"),
        (lambda: chain({"topolgy": "2"}), "stages.0.topolgy: no such setting"),
        (
            lambda: chain({"freeze": 3}, adapter__tied=True),
            r"stages\[0\] tells old nodes from new ones .* adapter.tied",
        ),
        (lambda: chain({"init": "copy"}, adapter__tied=True), "adapter.tied"),
        (lambda: run_config(train__node_dropout=1.0), "train.node_dropout is 1.0"),
        (lambda: run_config(method="malt", stages=[{"steps": 3}]), "stages is .* which method 'malt' does not use"),
        (lambda: run_config(method="collm-cc", train__node_dropout=0.1), "train.node_dropout is 0.1, which method"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(make, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make()
