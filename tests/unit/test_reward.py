"""A reward of a user's own: what a function may return, what is refused, and that it trains, waits and is found."""

import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import FirstCharacter, binary_backbone, make_network, run_config
from neuromas.config import TrainConfig
from neuromas.errors import TaskError
from neuromas.evaluate.run import evaluate
from neuromas.files import read_json_lines
from neuromas.run.carry import carry_task
from neuromas.run.loop import train
from neuromas.tasks import load_task
from neuromas.tasks.reward import graded
from neuromas.tasks.rows import RowsTask
from neuromas.train.objectives import advantages, leave_one_out, without_verdicts
from neuromas.train.optimizer import NodeAdamW
from neuromas.train.step import train_step
from neuromas.types import Grade

ROWS = [{"question": f"Is {n} odd?", "answer": str(n % 2)} for n in range(40)]


def rows(reward: Any) -> RowsTask:
    return RowsTask(ROWS, reward)


class Registered(FirstCharacter):
    """A task in Python whose `grade` returns whatever it is given."""

    def __init__(self, worth: Any) -> None:
        super().__init__("x")
        self.worth = worth

    def grade(self, question: Any, text: str) -> Any:
        return self.worth


def own(folder: Path, source: str, **settings: Any) -> Any:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "reward.py").write_text(source)
    said = {"data": "rows.jsonl", "test_size": 5, "validation_size": 5, "grader": "reward.py:score", **settings}
    (folder / "own.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    return load_task(str(folder / "own.toml"))


# -- the border --------------------------------------------------------------------------------------------

RIGHT: list[tuple[Any, float]] = [
    (1, 1), (0, 0), (True, 1), (False, 0), (0.25, 0.25), (np.float32(0.5), 0.5), (np.float64(1), 1), (np.int64(1), 1),
    (np.bool_(True), 1), (np.float16(0.5), 0.5), (Fraction(1, 4), 0.25), (Decimal("0.5"), 0.5), (-0.0, 0),
    (Grade(np.float32(1), "3"), 1), (Grade(1, None), 1),
    ({"form": 1, "right": 0}, 0.5), ({"form": (1, 1), "right": (0.5, 3)}, 0.625), ({"form": None, "right": 0.5}, 0.5),
    ({"form": np.float32(1), "right": (True, 0)}, 1),
]  # fmt: skip
WRONG: list[tuple[Any, str]] = [
    (math.nan, "not finite"), (math.inf, "not finite"), (-math.inf, "not finite"), (np.float32("nan"), "not finite"),
    (2.0, "not from 0 to 1"), (-1, "not from 0 to 1"), (1.0000001, "not from 0 to 1"), ("1", "it is a str"),
    ("", "it is a str"), (torch.tensor(1.0), "it is a Tensor"), (np.array(1.0), "it is a ndarray"), ([1], "is a list"),
    (np.array([1.0]), "it is a ndarray"), (1j, "complex"), (object, "it is a type"), (b"1", "it is a bytes"),
    (Grade(math.nan, "3"), "not finite"), (Grade("1", "3"), "it is a str"), (Grade(2.0, None), "not from 0 to 1"),
    ({"form": 2}, "not from 0 to 1"), ({"form": (1, -1)}, "weights"), ({"form": (1, 0)}, "weights"),
    ({"form": (1, math.nan)}, "weights"), ({"form": (1, 2, 3)}, "neither a number nor a pair"), ({"form": ""}, "str"),
]  # fmt: skip
WAYS = {"rows": lambda worth: rows(lambda question, reply: worth), "registered": Registered}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("worth, reward", RIGHT, ids=map(repr, [worth for worth, _ in RIGHT]))
def test_numbers_of_any_kind_are_rewards(way: str, worth: Any, reward: float) -> None:
    task = WAYS[way](worth)
    (grade,) = graded(task, task.questions("train")[:1], ["1"])
    assert grade.reward == pytest.approx(reward)
    assert type(grade.reward) is float
    json.dumps([grade.reward, grade.parsed, grade.parts])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("worth, why", WRONG, ids=map(repr, [worth for worth, _ in WRONG]))
def test_anything_else_is_refused_with_task_question_and_value(way: str, worth: Any, why: str) -> None:
    task = WAYS[way](worth)
    question = task.questions("train")[0]
    with pytest.raises(TaskError) as caught:
        graded(task, [question], ["1"])
    said = str(caught.value)
    assert f"task {task.name!r}: the reward of question {question.id!r} is {' '.join(repr(worth).split())[:40]}" in said
    assert why in said
    assert "return a number from 0 to 1" in said
    assert len(said) < 600


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("worth", [None, {"form": None}, Grade(0.0, "3", abstained=True)], ids=repr)
def test_no_verdict_is_one_where_that_can_be_done_without(way: str, worth: Any) -> None:
    task = WAYS[way](worth)
    asked = task.questions("train")[:1]
    assert graded(task, asked, ["1"], abstain=True)[0].abstained
    with pytest.raises(TaskError, match=r"reward of question '.*' is None, and this needs a verdict"):
        graded(task, asked, ["1"])


def test_a_grader_that_raises_is_named_with_the_question() -> None:
    def broken(question: Any, reply: str) -> float:
        return float(reply)

    task = rows(broken)
    with pytest.raises(TaskError, match=r"task 'rows': the reward of question 'row-\w+' cannot be had \(ValueError: c"):
        graded(task, task.questions("train")[:2], ["1", "x"])


def test_a_grader_that_would_end_the_process_is_named_with_the_question() -> None:
    task = rows(lambda question, reply: sys.exit(0))
    with pytest.raises(TaskError, match=r"the reward of question 'row-\w+' cannot be had \(SystemExit: 0\)"):
        graded(task, task.questions("train")[:1], ["1"])


# -- in a file beside the task -----------------------------------------------------------------------------


def test_a_function_in_a_file_beside_the_task_grades(tmp_path: Path) -> None:
    task = own(tmp_path, "def score(question, reply):\n    return 0.5 * (reply.strip() == question.answer)\n")
    question = task.questions("test")[0]
    assert [task.grade(question, text).reward for text in (question.answer, "x")] == [0.5, 0]
    assert task.describe()["sizes"]["test"] == 5
    first = task.fingerprint()
    (tmp_path / "reward.py").write_text("def score(question, reply):\n    return 1.0\n")
    now = load_task(str(tmp_path / "own.toml")).fingerprint()
    assert {part for part in now if now[part] != first[part]} == {"reward source"}


@pytest.mark.parametrize(
    "grader, source, said",
    [
        ("none.py:score", "", "there is no file .*none.py"),
        ("reward.py:points", "score = 1", "has no function 'points'; define it: def points"),
        ("reward.py:score", "score = 1", "has no function 'score'"),
        ("reward.py:score", "def score(:", r"cannot be run \(SyntaxError"),
        ("reward.py:score", "import no_such_module", r"cannot be run \(ModuleNotFoundError: .*no_such_module"),
        ("reward.py:score", "raise SystemExit", r"cannot be run \(SystemExit"),
        ("reward.py", "", "grader"),
        ("reward.txt:score", "", "grader"),
    ],
)
def test_a_file_without_such_a_function_is_refused(tmp_path: Path, grader: str, source: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        own(tmp_path, source, grader=grader)


def test_rewards_that_wait_are_had_side_by_side_and_those_that_hang_are_cut(tmp_path: Path) -> None:
    source = "import time\ndef score(question, reply):\n    time.sleep(0.1 if reply else 30)\n    return 1\n"
    task = own(tmp_path, source, reward_threads=8, reward_seconds=5.0)
    asked = task.questions("train")[:8]
    begin = time.perf_counter()
    assert [grade.reward for grade in graded(task, asked, ["1"] * 8)] == [1] * 8
    assert time.perf_counter() - begin < 0.7
    task = own(tmp_path, source, reward_threads=2, reward_seconds=0.3)
    with pytest.raises(TaskError, match=r"the reward of question '.*' took more than 0\.3 s; raise the limit"):
        graded(task, asked, ["1", "1", "", "1", "1", "1", "1", "1"])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_function_that_lets_no_other_thread_run_is_cut_whatever_waits_for_it(tmp_path: Path, threads: int) -> None:
    source = "import ctypes\nhold = ctypes.PyDLL(None).sleep\n"
    source += "def score(question, reply):\n    hold(60 if reply.startswith('bad') else 0)\n    return 1\n"
    task = own(tmp_path, source, reward_threads=threads, reward_seconds=0.3)
    asked = [task.questions("train")[0]] * 60
    with pytest.raises(TaskError, match=r"for 'bad 0+.*took more than 0\.3 s; raise the limit"):
        graded(task, asked, ["good", "bad " + 10_000 * "0", *["good " + 10_000 * "0"] * 58])


def test_callers_at_the_same_time_get_their_own_grades(tmp_path: Path) -> None:
    task = own(tmp_path, "def score(question, reply):\n    return float(reply)\n", reward_threads=2)
    question = task.questions("train")[0]
    asked = [[f"{caller / 10 + n / 1000}" for n in range(50)] for caller in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda replies: graded(task, [question] * 50, replies), asked))
    assert [[grade.reward for grade in grades] for grades in found] == [
        [float(r) for r in replies] for replies in asked
    ]


ENDS = {
    "os._exit(3)": "exit status 3",
    "os._exit(0)": "exit status 0",
    "os.kill(os.getpid(), signal.SIGKILL)": "SIGKILL",
    "os.abort()": "SIGABRT",
    "signal.raise_signal(signal.SIGSEGV)": "SIGSEGV",
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("end", ENDS)
def test_a_function_that_ends_its_process_is_cut_with_task_question_and_value(
    tmp_path: Path, end: str, threads: int
) -> None:
    source = f"import os, signal\ndef score(question, reply):\n    if reply == 'bad':\n        {end}\n    return 1\n"
    task = own(tmp_path, source, reward_threads=threads)
    asked = task.questions("train")[:20]
    with pytest.raises(TaskError) as caught:
        graded(task, asked, [*["good"] * 7, "bad", *["good"] * 12])
    said = f"task {task.name!r}: the reward of question {asked[7].id!r} for 'bad' ended its process ({ENDS[end]})"
    assert str(caught.value).startswith(said) or threads > 1
    assert f"ended its process ({ENDS[end]}); mend the function" in str(caught.value)
    assert [grade.reward for grade in graded(task, asked, ["good"] * 20)] == [1] * 20, "the next replies are graded"


def test_a_file_that_ends_its_process_when_it_is_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"grader 'reward.py:score': its file ended its process \(exit status 5\)"):
        own(tmp_path, "import os\nos._exit(5)\n")


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "GeneratorExit", "type('Odd', (BaseException,), {})('x')"])
@pytest.mark.parametrize("threads", [1, 2])
def test_whatever_a_function_raises_is_one_error(tmp_path: Path, error: str, threads: int) -> None:
    task = own(tmp_path, f"def score(question, reply):\n    raise {error}\n", reward_threads=threads)
    with pytest.raises(TaskError, match=r"the reward of question 'row-\w+' cannot be had \((Key|Gen|Odd)"):
        graded(task, task.questions("train")[:3], ["1"] * 3)


def test_a_function_keeps_what_its_file_keeps_and_is_called_in_the_main_thread(tmp_path: Path) -> None:
    source = """
import signal
from dataclasses import dataclass
from neuromas import Grade
calls = []
@dataclass(frozen=True)
class Mine(Grade):
    more: object = None
def score(question, reply):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    calls.append(reply)
    return Mine(len(calls) / 4, reply, more=lambda: None)
"""
    task = own(tmp_path, source)
    asked = task.questions("train")[:2]
    assert [g.reward for _ in range(2) for g in graded(task, asked, ["1", "2"])] == [0.25, 0.5, 0.75, 1]


DIES = """
import os, signal
from neuromas import Grade, Question
from neuromas.tasks.reward import graded
from neuromas.tasks.rows import RowsTask

def reward(question, reply):
    if reply == "bad":
        END
    return 1.0

task = RowsTask([{"question": f"Is {n} odd?", "answer": str(n % 2)} for n in range(40)], reward)
asked = task.questions("train")[:3]
print([grade.reward for grade in graded(task, asked, ["good"] * 3)], asked[1].id, flush=True)
graded(task, asked, ["good", "bad", "good"])
"""


@pytest.mark.parametrize("end", [*ENDS, "pass"])
def test_a_function_in_python_that_ends_the_process_is_named_by_another(end: str) -> None:
    script = DIES.replace("END", end)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("[1.0, 1.0, 1.0] row-")
    id = ended.stdout.split()[-1]
    said = f"error: task 'rows': the reward of question {id!r} for 'bad' was being computed when the process ended; "
    assert ended.stderr == ("" if end == "pass" else said + "if the grader ended it, correct the grader\n")


# -- rows graded by name -----------------------------------------------------------------------------------

NAMED = [
    ("exact", "Paris", "**paris**.", "It is Paris."),
    ("contains", "Paris", "It is Paris.", "It is Parisian."),
    ("number", "12", "So 5 + 7 = 12.0", "12 apples minus 1 is 11"),
    ("number", 1e-05, "0.00001", "5"),
    ("math", "1/2", "\\boxed{\\frac{2}{4}}", "\\boxed{2}"),
    ("yes-no", False, "There are no doubts: the answer is no.", "Yes"),
]


@pytest.mark.parametrize(("grader", "answer", "right", "wrong"), NAMED)
def test_rows_in_python_are_graded_by_name_and_so_is_their_export(
    tmp_path: Path, grader: Any, answer: Any, right: str, wrong: str
) -> None:
    given = RowsTask([row | {"answer": answer} for row in ROWS], grader, validation_size=5, test_size=5)
    carry_task(given, tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row | {"answer": answer}) + "\n" for row in ROWS))
    for task in (given, load_task(str(tmp_path / "task.toml"))):
        question = task.questions("test")[0]
        assert [task.grade(question, reply).reward for reply in (right, wrong)] == [1, 0]
        assert task.choices(question) == (("No", "Yes") if grader == "yes-no" else None)


@pytest.mark.parametrize("reward", ["numbr", "choice", 0.5, [], ("number",)])
def test_a_reward_that_is_neither_a_function_nor_a_grader_is_refused_at_once(reward: Any) -> None:
    with pytest.raises(TaskError, match=r"reward is .*neither a function .* exact, contains, number, math, yes-no;"):
        RowsTask(ROWS, reward)


def test_another_grader_is_another_reward() -> None:
    prints = [RowsTask(ROWS, grader).fingerprint() for grader in (None, "exact", "number")]
    assert prints[0] == prints[1]
    assert prints[2].keys() - prints[0].keys() == {"reward source"}


# -- training ----------------------------------------------------------------------------------------------


def test_rollouts_without_a_verdict_have_no_advantage_and_are_in_no_baseline() -> None:
    rewards, kept = (
        torch.tensor([[1.0, 0.0, 0.0, 9.0], [9.0, 9.0, 1.0, 9.0]]),
        torch.tensor([[True, True, True, False], [False, False, True, False]]),
    )
    found = advantages(rewards, 2, "leave_one_out", 0.0, kept)
    assert torch.equal(found[0, :3, 1], leave_one_out(rewards[:1, :3])[0])
    assert torch.equal(found[0, 3], torch.zeros(2))
    assert torch.equal(found[1], torch.zeros(4, 2)), "there is nothing to compare it with"
    plain = advantages(rewards, 1, "running_mean", 0.25, kept)[..., 0]
    assert plain.tolist() == [[0.75, -0.25, -0.25, 0], [0, 0, 0.75, 0]]
    filled = without_verdicts(rewards, kept)
    assert filled[0].tolist() == pytest.approx([1, 0, 0, 1 / 3])
    assert filled[1].tolist() == [1, 1, 1, 1]
    assert without_verdicts(rewards, torch.zeros_like(kept)).tolist() == [[0] * 4] * 2


ESTIMATORS = ["leave_one_out", "group_normalised", "running_mean", "critic", "counterfactual", "difference"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("abstains", [True, False])
def test_a_step_learns_from_verdicts_alone_and_counts_the_others(estimator: str, abstains: bool) -> None:
    """Where no reply has a verdict nothing moves, whatever the estimator."""
    from neuromas.train import critic

    network = make_network("2", binary_backbone())
    if estimator == "critic":
        critic.attach(network)
    before = [p.detach().clone() for p in network.adapters.stacks()]
    reply = {"1": 1.0, "0": 0.0}
    task = rows(
        lambda question, said: None if abstains else {"right": reply.get(said[:1], 0.5), "short": len(said) < 3}
    )
    config = TrainConfig(questions=3, rollouts=4, estimator=estimator)
    optimizer = NodeAdamW(network.adapters, network.extras, lr=1e-2)
    result = train_step(network, optimizer, task, task.questions("train")[:3], config, step=1, seed=0)
    moved = any(not torch.equal(a, b) for a, b in zip(before, network.adapters.stacks(), strict=True))
    assert moved is not abstains
    assert result.metrics.abstained == (12 if abstains else None)
    assert (result.metrics.reward_parts or {}).keys() == (set() if abstains else {"right", "short"})


def test_a_run_on_a_file_s_function_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    source = "def score(question, reply):\n    return {'1': 1, '0': 0.25}.get(reply[:1])\n"
    own(tmp_path, source)
    name, backbone = str(tmp_path / "own.toml"), binary_backbone()
    config = lambda steps: run_config(task__name=name, task__options={}, train__steps=steps, train__validate_every=5)
    train(config(3), tmp_path / "whole", backbone=backbone)
    train(config(1), tmp_path / "cut", backbone=backbone)
    train(config(3), tmp_path / "cut", backbone=backbone, resume=True)
    lines = [[line | {"seconds": 0} for line in read_json_lines(tmp_path / run / "metrics.jsonl") if line["step"]]
             for run in ("whole", "cut")]  # fmt: skip
    known = lambda line: {k: v for k, v in line.items() if k not in ("seconds", "validation")}
    assert [known(line) for line in lines[0]] == [known(line) for line in lines[1]]
    assert any(line.get("abstained") for line in lines[0]), "an empty reply has no verdict"
    assert len({line["reward"] for line in lines[0]}) > 1


def test_a_run_whose_reward_ends_its_process_goes_on_as_one_that_was_not_disturbed(tmp_path: Path) -> None:
    source = "import os\nfrom pathlib import Path\ndef score(question, reply):\n"
    source += "    here = Path(__file__).parent\n    calls = here / 'calls'\n"
    source += "    calls.write_text(calls.read_text() + '.' if calls.exists() else '.')\n"
    source += "    if len(calls.read_text()) == 20:\n        os._exit(0)\n    return reply[:1] == '1'\n"
    own(tmp_path, source)
    config = run_config(task__name=str(tmp_path / "own.toml"), task__options={}, train__steps=4, train__questions=2)
    with pytest.raises(TaskError, match=r"the reward of question 'row-\w+' for '.*' ended its process \(exit status 0"):
        train(config, tmp_path / "cut", backbone=binary_backbone())
    train(config, tmp_path / "cut", backbone=binary_backbone(), resume=True)
    train(config, tmp_path / "whole", backbone=binary_backbone())
    lines = [[line | {"seconds": 0} for line in read_json_lines(tmp_path / run / "metrics.jsonl")]
             for run in ("cut", "whole")]  # fmt: skip
    assert lines[0] == lines[1]
    assert len(lines[0]) >= 4


def test_questions_without_a_verdict_are_left_out_of_a_measurement_and_counted() -> None:
    network = make_network("1", binary_backbone())
    task = rows(lambda question, reply: None if question.answer == "0" else 0.5)
    found = evaluate(network, task, "test")
    n = sum(question.answer == "1" for question in task.questions("test"))
    assert (found.result.n, found.result.accuracy, found.result.abstained) == (n, 0.5, len(task.questions("test")) - n)
    assert len(found.traces) == len(found.records) == len(found.questions) == n
    assert f"{found.result.abstained} further questions are left out" in str(found.result)
    with pytest.raises(TaskError, match="the reward is None for all 8 replies"):
        evaluate(network, rows(lambda question, reply: None), "test")


def test_a_worker_runs_the_files_that_registered_tasks(tmp_path: Path) -> None:
    """As Ray's workers do, which begin without the script."""
    (tmp_path / "beside.py").write_text("NAME = 'near'\n")
    (tmp_path / "near.py").write_text(
        "from beside import NAME\nfrom neuromas.tasks import register, registrars\n"
        "from neuromas.tasks.compositional import Compositional\n"
        "register(NAME, Compositional)\nif __name__ == '__main__':\n    print(*registrars())\n"
    )
    script = subprocess.run([sys.executable, tmp_path / "near.py"], capture_output=True, text=True, check=True)
    assert script.stdout.split() == [str(tmp_path / "near.py")]
    code = "import sys; from neuromas.tasks import *; run_registrars(sys.argv[1:]); print(load_task('near').name)"
    worker = subprocess.run(
        [sys.executable, "-c", code, *script.stdout.split()], capture_output=True, text=True, check=True
    )
    assert worker.stdout.split() == ["compositional"]
