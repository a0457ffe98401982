"""The planner: arithmetic against numbers worked out by hand and what autograd keeps, advice that holds, errors."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import ARCHITECTURES, make_backbone
from neuromas.cli import main
from neuromas.cli.plan import _duration
from neuromas.config import RunConfig
from neuromas.errors import BackboneError, ConfigError
from neuromas.network.adapters import ATTENTION_TARGETS
from neuromas.network.forward import Network
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.plan.advice import advise, room
from neuromas.plan.calibrate import fit
from neuromas.plan.devices import Device, device_of, parse_bytes, stated_rates
from neuromas.plan.memory import group_sizes, head, kept, memory, sampling, updating
from neuromas.plan.model import ModelSizes, model_of
from neuromas.plan.report import plan, verdict
from neuromas.plan.seconds import Rates, forward_flops, sample_flops, sample_passes, seconds, update_flops
from neuromas.plan.work import PassWork, TurnWork, Work
from neuromas.train.step import train_step

LINEAR = {"q_proj": (4, 4), "k_proj": (2, 4), "v_proj": (2, 4), "o_proj": (4, 4)}
LINEAR |= {"gate_proj": (8, 4), "up_proj": (8, 4), "down_proj": (4, 8)}
MODEL = ModelSizes(
    "m", 2, 4, 2, 4, 2, 8, 10, 8, LINEAR, 400
)  # 2 layers, width 4, 2 heads of 2 (1 key/value head), inner 8
WORK = Work(
    turns=(TurnWork("1.1", 0, 3, 0, 2), TurnWork("out", 1, 3, 4, 3)),
    questions=2,
    rollouts=4,
    adapters=2,
    rank=2,
    targets=("q_proj", "o_proj"),
    dtype="float32",
    micro_tokens=40,
    checkpointing=False,
    kl=False,
    entropy=False,
)
SMOLLM2 = ModelSizes(
    "smollm2", 30, 576, 9, 576, 192, 1536, 49152, 1152,
    {"q_proj": (576, 576), "k_proj": (192, 576), "v_proj": (192, 576), "o_proj": (576, 576),
     "gate_proj": (1536, 576), "up_proj": (1536, 576), "down_proj": (576, 1536)},
    134_515_008,
)  # fmt: skip
NAVIGATE = replace(
    WORK,
    turns=(TurnWork("1.1", 0, 80, 0, 24), TurnWork("2.1", 1, 90, 35, 24), TurnWork("out", 2, 95, 35, 4)),
    questions=8,
    rollouts=8,
    rank=8,
    targets=ATTENTION_TARGETS,
    micro_tokens=8192,
)


def test_what_autograd_keeps_of_a_layer_is_as_by_hand() -> None:
    p = PassWork(groups=1, rows=2, prefix=3, own=2, tokens=7, scored=2)
    # norms 4·8; product 3·8, inputs of q (4) and o (4), ranks 2·2, 4 bytes each: 176 a token. Queries, keys, values
    # 7·(4+2·2); scores of 2 heads: 3² + 2·2·(3+2) = 29.
    assert kept(MODEL, WORK, p) == 7 * 176 + 4 * (7 * 8 + 2 * 29)


def test_adapters_take_sixteen_bytes_a_parameter() -> None:
    assert MODEL.adapter_parameters(("q_proj", "o_proj"), 2) == 2 * 2 * (8 + 8)
    assert memory(MODEL, WORK, 0).adapters == 16 * 2 * 64
    assert memory(MODEL, WORK, 0).weights == 400 * 4


def test_sampling_holds_keys_and_values_of_all_rows_and_their_logits() -> None:
    # the output: 2 groups of prefix 3 and 4 rows of 4 + 3 own tokens; 2 layers, keys and values of width 2, float32
    cache = 2 * 2 * 2 * (3 + 4 * 7) * 2 * 4
    slots, scores = 2 * (3 + 4 * 4), 2 * (9 + 16 * 7)
    scratch = 2 * 38 * 4 * 4 + max(3 * 38 * 8 * 4, 4 * (slots * (2 * 4 + 2 * 2) + 3 * 2 * scores))
    assert sampling(MODEL, WORK, 1) == cache + max(scratch, 8 * 10 * 4 + 2 * 4 * 8 * 10)


def test_a_cache_in_bfloat16_takes_half() -> None:
    longer = lambda dtype, own: replace(WORK, dtype=dtype, turns=tuple(replace(t, writes=own) for t in WORK.turns))
    grows = lambda dtype: sampling(MODEL, longer(dtype, 500), 1) - sampling(MODEL, longer(dtype, 400), 1)
    assert grows("bfloat16") * 2 == grows("float32") == 2 * 2 * 2 * 4 * 100 * 2 * 4


def test_the_heap_keeps_what_sampling_took_an_accelerator_gives_it_on() -> None:
    sample = max(sampling(MODEL, WORK, n) for n in (0, 1))
    update = max(updating(MODEL, WORK, replay) for replay in WORK.replays())
    assert memory(MODEL, WORK, 0).update == round(1.6 * (sample + update))
    there = replace(WORK, device="cuda")
    update = max(updating(MODEL, there, replay) for replay in there.replays())
    assert memory(MODEL, there, 0).update == round(1.15 * update)


def test_a_head_holds_one_chunk_of_logits_and_two_states_a_token() -> None:
    assert head(MODEL, WORK, 6, gradient=True) == 6 * 10 * 4 + 2 * 6 * 4 * 4
    many = head(SMOLLM2, WORK, 10_000, gradient=False)
    assert many == (2**24 // 49152) * 49152 * 4 + 10_000 * 576 * 4


def test_the_update_is_divided_as_training_divides_it() -> None:
    # 1.1: a group of 3 + 4·1 = 7 tokens; out: a row has 4 + 3 - 1 = 6, a group 3 + 24 = 27; the budget is 40
    assert [p.tokens for p in WORK.replays()] == [7 + 7, 27, 27]
    assert [p.tokens for p in replace(WORK, micro_tokens=20).replays()] == [14, 15, 15, 15, 15]


def test_flops_and_passes_are_as_by_hand() -> None:
    weights = 2 * (16 + 8 + 8 + 16 + 3 * 32)
    assert forward_flops(MODEL, [PassWork(1, 2, 3, 2, 7, 2)]) == 2 * weights * 7 + 2 * 2 * 40 + 29 * 4 * 2 * 4
    assert sample_passes(WORK) == 2 + 3
    assert update_flops(MODEL, WORK) == 2 * forward_flops(MODEL, WORK.replays())
    checkpointed = replace(WORK, checkpointing=True)
    assert update_flops(MODEL, checkpointed) == 3 * forward_flops(MODEL, WORK.replays())


def test_seconds_are_passes_and_flops_at_their_rates() -> None:
    rates = Rates(0.5, 1e4, 2.0, 1e5)
    found = seconds(MODEL, WORK, rates)
    assert found.sample == pytest.approx(5 * 0.5 + sample_flops(MODEL, WORK) / 1e4)
    assert found.update == pytest.approx(3 * 2.0 + update_flops(MODEL, WORK) / 1e5)
    assert found.measure == pytest.approx(1.0 + forward_flops(MODEL, [WORK.measured()]) / 1e5)
    assert seconds(MODEL, replace(WORK, kl=True), rates).measure == 0


@pytest.mark.parametrize("name", ["llama", "llama-mha", "qwen2", "qwen3", "gemma3"])
@pytest.mark.parametrize(
    "targets", [ATTENTION_TARGETS, ("q_proj", "gate_proj", "down_proj")], ids=["attention", "mixed"]
)
def test_the_arithmetic_is_what_autograd_keeps(name: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    backbone = make_backbone(name)
    backbone.model.config.save_pretrained(tmp_path)
    model = model_of(str(tmp_path))
    network = Network.create("2", backbone, rank=4, targets=targets)
    U, G, T, own, writes = 4, 3, 30, 6, 5
    groups = [Group(u // 2, [5] * T, [[5] * own] * G) for u in range(U)]
    held: dict[int, int] = {}
    frozen = {p.untyped_storage().data_ptr() for p in [*backbone.model.parameters(), *network.adapters.parameters()]}
    alive: list[Any] = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        alive.append(x)
        if x.untyped_storage().data_ptr() not in frozen:
            held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        replay(backbone, network.adapters, groups, [[6] * writes] * (U * G), 1.0)
    work = replace(WORK, rank=4, targets=targets)
    C = own + writes - 1
    p = PassWork(U, G, T, C, U * (T + G * C), U * G * writes)
    expected = model.layers * kept(model, work, p) + 4 * p.tokens * model.width + head(model, work, 0, gradient=True)
    assert expected == pytest.approx(sum(held.values()), rel=0.12)


@pytest.mark.parametrize("work", [WORK, NAVIGATE, replace(NAVIGATE, micro_tokens=700, checkpointing=True)])
def test_more_rollouts_never_need_less(work: Work) -> None:
    model = MODEL if work is WORK else SMOLLM2
    peaks = [memory(model, replace(work, rollouts=g), 0, most=True) for g in range(1, 40)]
    assert [m.update for m in peaks] == sorted(m.update for m in peaks)
    assert [m.peak for m in peaks] == sorted(m.peak for m in peaks)


def test_group_sizes_end_at_or_above_the_rollouts() -> None:
    assert list(group_sizes(3)) == [1, 2, 3]
    assert list(group_sizes(40))[15:] == [16, 24, 32, 48]


@pytest.mark.parametrize("setting", ["rank", "questions", "adapters"])
def test_more_of_it_needs_more(setting: str) -> None:
    small, large = (memory(SMOLLM2, replace(NAVIGATE, **{setting: n}), 0) for n in (2, 16))
    assert large.peak > small.peak


def test_each_saving_saves() -> None:
    whole = memory(SMOLLM2, NAVIGATE, 0).update
    for change in ({"micro_tokens": 1024}, {"checkpointing": True}, {"dtype": "bfloat16"}):
        assert memory(SMOLLM2, replace(NAVIGATE, **change), 0).update < whole


@pytest.mark.parametrize("limit", [8e9, 4e9, 1.6e9, 1e9])
def test_suggestions_make_it_fit(limit: float) -> None:
    changes, work = advise(SMOLLM2, NAVIGATE, 0, int(limit))
    assert changes
    assert memory(SMOLLM2, work, 0, most=True).peak <= limit
    assert changes[-1].peak == memory(SMOLLM2, work, 0, most=True).peak
    assert sum(c.saves for c in changes) == memory(SMOLLM2, NAVIGATE, 0, most=True).peak - changes[-1].peak
    assert all(c.peak > limit for c in changes[:-1])  # nothing is asked for that is not needed


def test_nothing_is_suggested_where_it_fits_and_all_where_nothing_helps() -> None:
    assert advise(SMOLLM2, NAVIGATE, 0, 10**12)[0] == []
    changes, work = advise(SMOLLM2, NAVIGATE, 0, 10**8)
    assert {c.setting for c in changes} >= {"train.micro_tokens", "train.rollouts", "backbone.dtype"}
    assert memory(SMOLLM2, work, 0, most=True).peak > 10**8


def test_the_largest_settings_fit_and_a_tenth_more_does_not() -> None:
    limit = 24 * 10**9
    found = room(SMOLLM2, NAVIGATE, 0, limit)
    for setting in ("rank", "rollouts"):
        fits = lambda n, s=setting: memory(SMOLLM2, replace(NAVIGATE, **{s: n}), 0, most=True).peak <= limit
        assert fits(found[setting])
        assert not fits(round(found[setting] * 1.6))
    assert found["nodes"] > 3
    assert set(room(SMOLLM2, NAVIGATE, 0, 10**8).values()) == {0}


@pytest.mark.parametrize(
    ("text", "count"), [("24GB", 24e9), ("24 gib", 24 * 2**30), ("1.5T", 1.5e12), ("500000000", 5e8)]
)
def test_sizes_are_read(text: str, count: float) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "0GB", "-3GB", "24XB", "rtx9999"])
def test_a_size_that_is_none_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"24GB.*h100"):
        device_of(text)


def test_speed_without_a_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="--gpu"):
        device_of(None, flops=1e12)
    with pytest.raises(ConfigError, match="above 0"):
        device_of("24GB", bandwidth=-1.0)


def test_stated_rates_need_both_figures_and_follow_them() -> None:
    assert stated_rates(SMOLLM2, Device("x", "cuda", 1, 1e12, None), "bfloat16") is None
    slow, fast = (stated_rates(SMOLLM2, Device("x", "cuda", 1, f, 1e11), "bfloat16") for f in (1e12, 4e12))
    assert slow is not None and fast is not None
    assert fast.sample_flops == 4 * slow.sample_flops


def test_a_backbone_is_planned_from_its_config_alone(tmp_path: Path) -> None:
    config = ARCHITECTURES["qwen3"]
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 260, "hidden_size": 32} | config))
    recipe = RunConfig.make({"backbone": {"name": str(tmp_path)}, "topology": "2-2"})
    with pytest.raises(BackboneError, match="--prompt-tokens"):
        plan(recipe, device_of("24GB"))
    found = plan(recipe, device_of("l4"), prompt_tokens=100)
    assert [turn.prefix for turn in found.longest.turns] == [100] * 5
    assert found.longest.dtype == "bfloat16"
    assert found.seconds is not None
    assert "not measured" in verdict(found)


def test_a_backbone_that_is_not_there_is_named_with_the_remedy() -> None:
    with pytest.raises(BackboneError, match=r"nobody/nothing.*config\.json"):
        model_of("nobody/nothing")


def test_a_backbone_of_another_architecture_is_refused_with_those_that_work(tmp_path: Path) -> None:
    sizes = {"n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 20, "eos_token_id": 0, "bos_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"} | sizes))
    with pytest.raises(BackboneError, match=r"gpt2.*q_proj.*Llama"):
        model_of(str(tmp_path))


def test_assumed_prompts_need_neither_questions_nor_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromas.plan.report.load_task", lambda *_, **__: pytest.fail("no task is needed"))
    found = plan(RunConfig.make({"sampling": {"answer_tokens": 9}}), device_of("24GB"), prompt_tokens=50)
    assert [(turn.prefix, turn.writes) for turn in found.longest.turns][-1] == (50, 9)


def test_only_networks_are_planned() -> None:
    with pytest.raises(ConfigError, match="malt"):
        plan(RunConfig.make({"method": "malt"}), device_of("24GB"))


def test_the_command_plans_a_recipe_with_its_own_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "tiny_compositional_2.toml"
    main(["plan", str(recipe), "--gpu", "600MB", "--json", str(tmp_path / "plan.json")])
    (found,) = json.loads((tmp_path / "plan.json").read_text())
    assert not found["fits"]
    assert found["seconds"] is None
    assert found["memory"]["longest"]["peak"] >= found["memory"]["expected"]["peak"]
    phases = ["load", "sample", "update", "measure"]
    assert [*found["memory"]["longest"]] == ["base", "weights", "adapters", *phases, "peak", "phase"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "does not fit" in printed
    assert found["changes"][0]["setting"] in printed


def test_a_plan_counts_the_layers_that_the_backbone_declares_where_a_recipe_names_none() -> None:
    trained = lambda **adapter: plan(
        RunConfig.make({"topology": "2", "adapter": adapter}), device_of("24GB"), prompt_tokens=20, calibrated=False
    ).to_dict()["trainable_parameters"]
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert trained() == trained(targets=every) > trained(targets=every[:4])


def test_a_recipe_that_is_not_toml_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text("[train")
    with pytest.raises(SystemExit):
        main(["plan", str(tmp_path / "recipe.toml")])
    assert "not valid TOML" in " ".join(capsys.readouterr().err.split())


def test_the_command_plans_every_network_of_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        "title = 'Two'\nseeds = [0, 1, 2]\nlearning_rates = [1e-3, 2e-3]\n[[tasks]]\nname = 'compositional'\n"
        "[[tasks]]\nname = 'compositional'\nlabel = 'again'\n[train]\nsteps = 2\n"
        "[systems.direct]\n[systems.pair]\ntopology = '2'\n[systems.chain]\ntopology = '1'\n"
    )
    speed = ("--flops", "1e14", "--bandwidth", "1e12")
    main(["plan", str(spec), "--gpu", "2GB", *speed, "--json", str(tmp_path / "plan.json")])
    printed = capsys.readouterr().out
    systems = ("pair", "chain", "single-r24", "single-r16", "scratchpad-3-r24", "scratchpad-2-r16")
    assert all(f"{name}, 2 tasks" in printed for name in systems)
    seconds = sum(report["seconds"]["step"] for report in json.loads((tmp_path / "plan.json").read_text()))
    seconds *= 2 * 4  # two steps; two rates with the first seed, and two more seeds
    assert f"48 trainings of networks take about {_duration(seconds)} one after another" in " ".join(printed.split())
    assert printed.count("Each alone could be raised to") == 1, "the largest one is explained"
    with pytest.raises(SystemExit):
        main(["plan", str(spec), "--system", "nobody"])


@pytest.mark.parametrize(
    ("seconds", "told"), [(2.427, "2.43 seconds"), (120, "120 seconds"), (300, "5 minutes"), (5e6, "1,390 hours")]
)
def test_a_duration_is_told_in_a_unit_that_a_person_would_take(seconds: float, told: str) -> None:
    assert _duration(seconds) == told


def test_rates_that_made_the_times_are_found() -> None:
    per_pass, rate = 0.004, 30e9
    laps = [(n, f, n * per_pass + f / rate) for n, f in ((22, 1.5e9), (22, 5e9), (22, 4e10))]
    assert fit(laps) == pytest.approx((per_pass, rate))


def test_noise_does_not_put_all_of_the_time_into_passes_that_grow_with_the_work() -> None:
    noisy = [(1, 1.1e10, 0.33), (2, 2.26e10, 0.46), (4, 4.46e10, 0.85), (7, 7.94e10, 1.2), (7, 7.94e10, 1.4)]
    per_pass, rate = fit(noisy)
    assert 7 * per_pass + 7.94e10 / rate == pytest.approx(1.3), "the median of the largest is met"
    assert 14 * per_pass + 15.9e10 / rate == pytest.approx(2.6, rel=0.02), "twice the work takes twice the time"


def test_there_is_a_rate_where_all_laps_take_the_same_time() -> None:
    per_pass, rate = fit([(22, 1e9, 0.5), (22, 4e9, 0.5), (22, 8e9, 0.5)])
    assert 0 < rate < math.inf and 22 * per_pass + 8e9 / rate == pytest.approx(0.5)


def test_calibration_trains_on_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps use the estimator that they name, and none is a warm start's, which drops the rows that were wrong."""
    seen: list[str | None] = []

    def spy(*args: Any, **how: Any) -> Any:
        result = train_step(*args, **how)
        seen.append(result.metrics.estimator)
        return result

    monkeypatch.setattr("neuromas.plan.calibrate.train_step", spy)
    settings = {"topology": "1", "train": {"questions": 2, "rollouts": 2}, "sampling": {"message_tokens": 4}}
    plan(RunConfig.make(settings), device_of(None))
    assert len(seen) >= 2 and set(seen) == {"running_mean"}


def test_calibration_finds_rates_and_lengths() -> None:
    recipe = RunConfig.make(
        {"topology": "1", "train": {"questions": 2, "rollouts": 2}, "sampling": {"message_tokens": 4}}
    )
    found = plan(recipe, device_of(None))
    assert found.rates is not None and found.rates.sample_flops > 0 and found.rates.update_flops > 0
    assert all(
        1 <= turn.writes <= most.writes for turn, most in zip(found.expected.turns, found.longest.turns, strict=True)
    )
    assert found.seconds is not None and found.seconds.step > 0
