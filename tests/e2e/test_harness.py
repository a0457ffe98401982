"""A network on lm-evaluation-harness: the same items give the same accuracy as `neuromas eval`."""

import json
from pathlib import Path

import pytest

from helpers import make_network
from neuromas import cli
from neuromas.errors import ConfigError
from neuromas.evaluate.harness import generate_until, stops_of
from neuromas.network.stopping import cut
from neuromas.run.build import load_run
from neuromas.tasks import load_task
from neuromas.types import Question

RECIPE = """
topology = "1"
[task]
name = "compositional"
[train]
steps = 1
questions = 2
rollouts = 4
validation_questions = 4
"""
YAML = """
task: own_items
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs: {{until: ["\\n\\n"], do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: false}}
"""


def test_stop_strings_cut_at_the_first_that_occurs() -> None:
    assert cut("one\ntwo. three", stops_of(["\n\n", ".", "\n"])) == ("one", True)
    assert cut("one", stops_of(["\n"])) == ("one", False)
    assert cut("one stop", stops_of("st")) == ("one ", True)
    assert stops_of(["", None]) == stops_of(None) == []  # pyright: ignore[reportArgumentType]


def test_requests_are_answered_in_order_each_by_its_own_settings() -> None:
    network = make_network("1-1")
    prompts = ["1+1", "2+2", "3+3"]
    settings = [{"do_sample": False}, {"temperature": 0.9, "max_gen_toks": 2}, {"until": ["\n"]}]
    found = generate_until(network, list(zip(prompts, settings, strict=True)), seed=3)
    alone = [generate_until(network, [pair], seed=3)[0] for pair in zip(prompts, settings, strict=True)]
    assert found == alone
    greedy = network.answer([Question("any", prompts[0], "")])[0].answer
    assert found[0] == greedy
    assert network.limits.answer_tokens > 2, "what a task asks for ends with it"


def test_one_command_gives_the_accuracy_of_eval_on_the_same_items(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (pip install -e '.[harness]')")
    (tmp_path / "short.toml").write_text(RECIPE)
    run = tmp_path / "run"
    cli.main(["train", str(tmp_path / "short.toml"), "--test-limit", "4", "--out", str(run)])
    network, task, _ = load_run(run)
    asked = [Question(f"q{n}", q.text, "") for n, q in enumerate(task.questions("test")[:12])]
    said = [trace.answer for trace in network.answer(asked)]
    gold = [text if n % 3 else "no such answer" for n, text in enumerate(said)]
    rows = [{"question": q.text, "answer": answer} for q, answer in zip(asked, gold, strict=True)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "items.jsonl").write_text(lines)
    others = "".join(json.dumps({"question": f"{n}", "answer": "x"}) + "\n" for n in range(9))
    (tmp_path / "train.jsonl").write_text(others)
    (tmp_path / "own.toml").write_text('data = "train.jsonl"\ntest = "items.jsonl"\nvalidation_size = 2\n')
    (tmp_path / "own.yaml").write_text(YAML.format(file=tmp_path / "items.jsonl"))
    own = load_task(str(tmp_path / "own.toml"))
    assert [q.text for q in own.questions("test")] == [q.text for q in asked]

    cli.main(["eval", str(run), "--task", str(tmp_path / "own.toml"), "--json", str(tmp_path / "eval.json")])
    options = ["--include", str(tmp_path), "--json", str(tmp_path / "harness.json")]
    cli.main(["harness", str(run), "--tasks", "own_items", *options])
    mine = json.loads((tmp_path / "eval.json").read_text())
    theirs = json.loads((tmp_path / "harness.json").read_text())
    assert theirs["results"]["own_items"]["exact_match,none"] == pytest.approx(mine["accuracy"])
    assert mine["accuracy"] == pytest.approx(8 / 12)
    assert [s["filtered_resps"][0] for s in theirs["samples"]["own_items"]] == said

    from neuromas.evaluate.harness import evaluate

    with pytest.raises(ConfigError, match="no task 'nonsense'"):
        evaluate(network, ["nonsense"])
