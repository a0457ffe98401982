"""Settings: what is wrong is named, with the remedy; published recipes are right."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuromas.baselines import names
from neuromas.config import RunConfig, Section, StageConfig
from neuromas.errors import ConfigError
from neuromas.files import write_json
from neuromas.network.forward import Limits
from neuromas.network.loading import pick_device
from neuromas.network.topology import Topology
from neuromas.recipe import override, settings_class
from neuromas.run.folder import recipe_data
from neuromas.tasks import load_task

COMPARISONS = ("compare_", "paper_")  # the beginnings of their names
RECIPES = [
    p for p in sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")) if not p.stem.startswith(COMPARISONS)
]


def refused(data: dict, *words: str) -> str:
    with pytest.raises(ConfigError) as error:
        RunConfig.make(data)
    for word in words:
        assert word in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "data, name",
    [
        ({"trian": {}}, "trian"),
        ({"train": {"step": 3}}, "train.step"),
        ({"adapter": {"ranks": 3}}, "adapter.ranks"),
        ({"sampling": {"temprature": 1}}, "sampling.temprature"),
    ],
)
def test_an_unknown_setting_is_named_in_full(data: dict, name: str) -> None:
    refused(data, f"{name}: no such setting", "did you mean")


@pytest.mark.parametrize(
    "name, value",
    [
        ("train.steps", 0), ("train.learning_rate", -1.0), ("train.learning_rate", "fast"), ("train.clip", 0),
        ("train.estimator", "ppo"), ("sampling.temperature", 0), ("sampling.top_p", 1.5),
        ("adapter.rank", 0), ("backbone.dtype", "int8"), ("backbone.style", "alpaca"), ("train.kl", -0.1),
        ("sampling.message_tokens", 0), ("seed", "x"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_with_the_value(name: str, value) -> None:
    refused(override({}, {name: value}), f"{name} is {value!r}")


def test_settings_of_version_0_1_0_are_dropped_at_their_default_and_else_refused() -> None:
    assert RunConfig.make({"train": {"decay": "constant", "credit_nodes": None, "steps": 3}}).train.steps == 3
    refused({"train": {"decay": "linear"}}, "train.decay is 'linear'", "removed after version 0.1.0", "leave it out")
    refused({"train": {"credit_nodes": 2}}, "train.credit_nodes is 2", "removed after version 0.1.0")
    refused({"train": {"estimator": "group_mean"}}, "'group_mean'", "removed after version 0.1.0", "'leave_one_out'")


def test_every_mistake_is_reported_at_once() -> None:
    refused({"train": {"steps": 0, "nonsense": 1}, "adapter": {"rank": -1}}, "train.steps", "train.nonsense", "adapter")


@pytest.mark.parametrize("estimator", ["leave_one_out", "group_normalised"])
def test_a_single_rollout_contradicts_an_estimator_that_compares_rollouts(estimator: str) -> None:
    text = refused(
        {"train": {"rollouts": 1, "estimator": estimator}},
        "train.rollouts is 1", repr(estimator), "raise rollouts or use estimator 'running_mean'",
    )  # fmt: skip
    assert len(text) < 300, "the message shows the contradiction, not the whole recipe"


def test_a_single_rollout_is_fine_with_a_running_mean() -> None:
    assert RunConfig.make({"train": {"rollouts": 1, "estimator": "running_mean"}}).train.rollouts == 1


def test_settings_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().train.steps = 3


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_every_published_recipe_is_valid_and_names_a_task_a_topology_and_ends_early(recipe: Path) -> None:
    config = RunConfig.load(recipe)
    Topology.parse(config.topology)
    assert recipe.stem.endswith({"malt": "_malt", "collm-cc": "_collm"}.get(config.method, ""))
    assert config.backbone.name in ("tiny", "smollm2-135m")
    assert RunConfig.make(config.model_dump(mode="json")) == config
    if config.task.name == "compositional":
        load_task(config.task.name, **config.task.options)


def test_there_are_recipes() -> None:
    assert RECIPES


def test_a_recipe_is_overridden_by_dotted_names_and_none_leaves_it_alone(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('topology = "1"\n[train]\nsteps = 7\nquestions = 3\n')
    config = RunConfig.load(file, **{"train.steps": 9, "seed": None, "task.name": "bbh/navigate"})
    assert (config.topology, config.train.steps, config.train.questions) == ("1", 9, 3)
    assert (config.seed, config.task.name) == (0, "bbh/navigate")


def test_overriding_leaves_its_argument_as_it_was() -> None:
    data = {"task": {"options": {"depth": 2}}, "train": {"steps": 1}}
    before = copy.deepcopy(data)
    assert override(data, {"task.options.depth": 3, "train.steps": 2})["task"]["options"]["depth"] == 3
    assert data == before


def test_the_settings_are_those_of_the_recipe_else_of_the_run_that_goes_on_else_none(tmp_path: Path) -> None:
    recipe, run = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text('topology = "3"\n[train]\nsteps = 7\n', encoding="utf-8")
    write_json(run / "config.json", RunConfig.make({"topology": "2-2", "seed": 5}).model_dump(mode="json"))
    assert recipe_data(recipe, run) == {"topology": "3", "train": {"steps": 7}}
    saved = recipe_data(None, run)
    assert (saved["topology"], saved["seed"]) == ("2-2", 5)
    assert RunConfig.make(override(saved, {"train.steps": 9})).train.steps == 9
    assert recipe_data(None, None) == recipe_data(None, tmp_path / "nowhere") == {}


def test_a_recipe_that_is_missing_or_is_no_toml_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.toml' does not exist; published ones are in .*recipes"):
        RunConfig.load(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(ConfigError, match="bad.toml' is not valid TOML"):
        RunConfig.load(tmp_path / "bad.toml")


def test_a_published_recipe_is_found_without_a_clone_and_an_own_one_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Path("recipes/tiny_compositional_2.toml")
    assert RunConfig.load(recipe).topology == "2"
    recipe.parent.mkdir()
    recipe.write_text('topology = "3"\n')
    assert RunConfig.load(recipe).topology == "3"
    with pytest.raises(ConfigError, match="recipes/none.toml' does not exist"):
        RunConfig.load(Path("recipes/none.toml"))


@pytest.mark.parametrize("name", ["message_tokens", "answer_tokens", "batch_rows"])
def test_limits_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        Limits(**{name: 0})


def test_an_unknown_device_is_refused_with_those_there_are() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="'abacus' is unknown; use auto, cpu"):
        pick_device("abacus")


def sections(section: type[Section]) -> Iterator[type[Section]]:
    """A table of settings and the tables in it."""
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from sections(field.annotation)


RUNS = [RunConfig, *(settings_class(name) for name in names(trained=True))]


@pytest.mark.parametrize(
    "section", dict.fromkeys([*(s for run in RUNS for s in sections(run)), StageConfig]), ids=lambda s: s.__name__
)
def test_every_setting_is_described_in_sentences(section: type[Section]) -> None:
    """The table of settings in the documentation is made of these."""
    for name, field in section.model_fields.items():
        if field.description is None:
            assert isinstance(field.annotation, type) and issubclass(field.annotation, Section), name
        else:
            assert field.description.endswith("."), name
