"""reasoning-gym's data sets: the same questions in every process, and grades that are those of their own scorers."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuromas.errors import TaskError
from neuromas.tasks import SPLITS, gym, load_task
from neuromas.tasks.reasoning import ReasoningGym
from neuromas.types import Question

pytest.importorskip("reasoning_gym")

FORMULAS = ["countdown", "polynomial_multiplication", "simple_integration"]
LISTINGS = ["number_sorting", "string_insertion", "spiral_matrix", "binary_matrix", "n_queens"]
WORDS = [
    "spell_backward",
    "caesar_cipher",
    "decimal_arithmetic",
    "fraction_simplification",
    "syllogism",
    "power_function",
]
OTHERS = [*FORMULAS, *LISTINGS, *WORDS]
BY_HASH = ["list_functions", "isomorphic_strings", "ransom_note"]  # drew otherwise in every process
WITHOUT_GOLD = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}

DIGEST = """
import hashlib, sys
from neuromas.tasks import gym
name, sizes = sys.argv[1], dict.fromkeys(("train", "validation", "test"), int(sys.argv[2]))
try:
    found = gym.drawn({one: {} for one in name.split("+")}, sizes, 0)
    asked = [[item["question"], item["answer"]] for split in found.values() for _, item in split]
    print(hashlib.sha256(repr(asked).encode()).hexdigest())
except gym.TaskError as error:
    print(error)
"""


def elsewhere(name: str, size: int, hash_seed: str) -> str:
    """A hash of the questions and answers that another process draws."""
    known = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DIGEST, name, str(size)]
    return subprocess.run(command, env=os.environ | known, capture_output=True, text=True, check=True).stdout.strip()


def test_data_sets_that_draw_by_hashes_or_global_generators_are_the_same_in_every_process() -> None:
    name = "+".join(BY_HASH)
    found = gym.drawn({one: {} for one in BY_HASH}, dict.fromkeys(SPLITS, 6), 0)
    asked = [[item["question"], item["answer"]] for split in found.values() for _, item in split]
    assert len(asked) == 18 and {one for split in found.values() for one, _ in split} == {*BY_HASH}
    assert elsewhere(name, 6, "1") == hashlib.sha256(repr(asked).encode()).hexdigest()


@pytest.mark.slow
def test_every_data_set_is_the_same_in_two_processes_and_its_gold_has_a_full_score() -> None:
    from reasoning_gym.factory import DATASETS

    names = sorted(DATASETS.keys() - {"composite"} - WITHOUT_GOLD)
    assert len(names) >= 100
    assert [name for name in names if elsewhere(name, 3, "1") != elsewhere(name, 3, "2")] == []
    for name in names:
        found = gym.drawn({name: {}}, dict.fromkeys(SPLITS, 3), 0)
        scorer = gym.dataset(name, {}, 0)
        assert {scorer.score_answer(item["answer"], item) for split in found.values() for _, item in split} == {1.0}


def test_what_goes_wrong_in_the_child_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="boxnet gives no answer to compare with"):
        gym.drawn({"boxnet": {}}, dict.fromkeys(SPLITS, 1), 0)
    monkeypatch.setattr(gym, "__name__", "no.such.module")
    with pytest.raises(TaskError, match=r"process ended with 1 and said .*no.*run it again"):
        gym.drawn({"lcm": {}}, dict.fromkeys(SPLITS, 1), 99)


@pytest.fixture(scope="module")
def others() -> ReasoningGym:
    task = load_task(f"reasoning-gym/{'+'.join(OTHERS)}", train_size=28, validation_size=28, test_size=56)
    assert isinstance(task, ReasoningGym)
    return task


def questions_of(task: ReasoningGym, name: str) -> list[Question]:
    found = [question for question in task.questions("test") if question.metadata["dataset"] == name]
    assert found
    return found


@pytest.mark.parametrize("name", OTHERS)
def test_gold_answers_of_other_data_sets_score_1(name: str, others: ReasoningGym) -> None:
    for question in questions_of(others, name):
        assert others.grade(question, question.answer).reward == 1.0
        assert others.grade(question, f"\n{question.answer} ").reward == 1.0
        assert others.grade(question, f"<think>Hm.</think>{question.answer}").reward == 1.0
        assert others.grade(question, "wrong").reward == 0.0
        assert others.grade(question, f"{question.answer} or so").reward in (0.0, 1.0)  # a partial score is none
        assert len(question.answer) <= others.max_answer_tokens


def test_a_formula_of_other_numbers_than_those_given_scores_0(others: ReasoningGym) -> None:
    for question in questions_of(others, "countdown"):
        assert others.grade(question, f"{question.answer} + 1 - 1").reward == 0.0


def test_partial_scores_of_the_data_sets_own_scorers_can_be_trained_on() -> None:
    sizes = {"train_size": 2, "validation_size": 2, "test_size": 8}
    task = load_task("reasoning-gym/caesar_cipher+chain_sum", partial=True, **sizes)
    whole = load_task("reasoning-gym/caesar_cipher+chain_sum", **sizes)
    assert task.questions("test") == whole.questions("test")
    for question in task.questions("test"):
        assert task.grade(question, question.answer).reward == 1.0
        if question.metadata["dataset"] == "chain_sum":
            grade = task.grade(question, f"{question.answer}9")
            assert 0 < grade.reward < 1 and grade.parsed == f"{question.answer}9"
            assert whole.grade(question, f"{question.answer}9").reward == 0.0
        assert task.grade(question, "").reward == task.grade(question, "<think>7").reward == 0.0
    with pytest.raises(TaskError, match="partial must be true or false, got 2"):
        load_task("reasoning-gym/chain_sum", partial=2)


@pytest.mark.parametrize("name", FORMULAS + LISTINGS)
def test_scorers_that_evaluate_replies_are_never_given_code(name: str, others: ReasoningGym, tmp_path: Path) -> None:
    question, spoiled = questions_of(others, name)[0], tmp_path / "spoiled"
    attacks = [
        f"__import__('pathlib').Path({str(spoiled)!r}).touch()",
        f"open({str(spoiled)!r}, 'w')",
        f"[open(x, 'w') for x in [{str(spoiled)!r}]]",
        "9**9**9**9",
        "((((9**99)**99)**99)**99)**99",
        "2**(99*99*99*99*99)",
        "1e999999999",
        "[0]*10**10",
        "().__class__.__bases__",
        "factorial(99999999)",
        "(lambda: 1)()",
        "[1 for a in 'aaaaaaaa' for b in 'aaaaaaaa']",
    ]
    for attack in attacks:
        assert others.grade(question, attack).reward == 0.0
        assert others.grade(question, attack).parsed is None
    assert not spoiled.exists()
