"""The hierarchical task: right values, labelled parts, and splits that never share an expression."""

import re

import numpy as np
import pytest

from neuromas.errors import TaskError
from neuromas.tasks.compositional import Compositional
from neuromas.tasks.expressions import Space, splits_of
from neuromas.types import Question

SMALL = {"train_size": 300, "validation_size": 50, "test_size": 100}
OPTIONS = [
    {"depth": 1},
    {"depth": 2},
    {"depth": 3},
    {"depth": 4},
    {"depth": 2, "operators": "+*-"},
    {"depth": 3, "modulus": 7, "operators": "-"},
    {"kind": "boolean", "depth": 2},
    {"kind": "boolean", "depth": 3, "operators": "&|^"},
]


def by_hand(text: str, modulus: int | None) -> int:
    """The value of an expression by Python's own arithmetic; modulo 10 commutes with + - and *."""
    value = int(eval(re.sub("[a-r]", "", text)))
    return value if modulus is None else value % modulus


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_answer_is_what_python_computes_from_the_text(options: dict) -> None:
    task = Compositional(**options, **SMALL)
    modulus = None if task.space.kind == "boolean" else task.space.modulus
    for question in task.questions("train"):
        assert question.answer == str(by_hand(question.text, modulus))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_statement_is_true_and_names_a_part_that_stands_in_the_text(options: dict) -> None:
    task = Compositional(**options, **SMALL)
    for question in task.questions("test")[:40]:
        statements, values = question.metadata["statements"], question.metadata["values"]
        assert set(statements) == set(values) == set(task.space.labels)
        text = question.text
        for label in task.space.labels:  # bottom level first: replace each part by its value, as a person would
            work, value = statements[label].removeprefix("" if label == "r" else label).split("=")
            assert f"{'' if label == 'r' else label}({work})" in text
            text = text.replace(f"{'' if label == 'r' else label}({work})", value, 1)
            assert value == str(values[label])
        assert text == question.answer


def test_the_sample_of_the_docstring_is_what_the_task_renders() -> None:
    pool = Space(depth=2).everything()
    row = next(i for i in range(len(pool)) if pool.text[i].tobytes() == b"(a(3+5)*b(2*7))")
    assert [s.tobytes() for s in pool.statements[row]] == [b"a3+5=8;", b"b2*7=4;", b"r8*4=2;"]
    assert pool.values[row].tolist() == [8, 4, 2]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_expression_is_in_two_splits_or_twice_in_one(options: dict) -> None:
    task = Compositional(**options, **SMALL)
    ids = [q.id for split in ("train", "validation", "test") for q in task.questions(split)]
    assert len(ids) == len(set(ids))


def test_splits_stay_apart_when_seeds_sizes_and_operators_differ() -> None:
    one = Compositional(seed=0, train_size=60_000)
    two = Compositional(seed=1, operators="*+", test_size=8_000, validation_size=4_000)
    three = Compositional(seed=2, operators="+*-", test_size=8_000, validation_size=4_000)
    train = {q.text for q in one.questions("train")}
    assert not any(q.text in train for t in (two, three) for s in ("validation", "test") for q in t.questions(s))


def test_default_sizes_are_kept_and_a_small_space_gives_all_it_has() -> None:
    task = Compositional(depth=2)
    assert [len(task.questions(s)) for s in ("train", "validation", "test")] == [20_000, 512, 2048]
    deep = Compositional(depth=3)
    assert [len(deep.questions(s)) for s in ("train", "validation", "test")] == [20_000, 512, 2048]
    small = Compositional(kind="boolean", depth=2)
    assert sum(len(small.questions(s)) for s in ("train", "validation", "test")) == 2**4 * 2**3


def test_about_a_tenth_of_all_expressions_are_for_testing() -> None:
    share = np.bincount(splits_of(Space(depth=2).everything().text), minlength=3) / 80_000
    assert np.allclose(share, [0.85, 0.05, 0.10], atol=0.01)


def test_the_same_seed_gives_the_same_questions_and_another_seed_others() -> None:
    first, again, other = (Compositional(depth=3, seed=s, **SMALL).questions("test") for s in (4, 4, 5))
    assert first == again
    assert first != other


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_gold_answer_scores_one_and_every_other_scores_nothing(options: dict) -> None:
    task = Compositional(**options, **SMALL)
    for question in task.questions("train")[:20]:
        for choice in task.answer_choices or ():
            assert task.grade(question, choice).reward == float(choice == question.answer)


@pytest.mark.parametrize(
    ("text", "parsed", "reward"),
    [
        ("2", "2", 1),
        ("8*4=2", "2", 1),
        ("The answer is 2.", "2", 1),
        ("8-2", "2", 1),
        ("2, or maybe 3", "3", 0),
        ("12", "12", 0),
        ("-2", "-2", 0),
        ("02", "02", 0),
        ("3.2", "3.2", 0),
        ("٢", None, 0),
        ("two", None, 0),
        ("", None, 0),
    ],
)
def test_the_last_number_is_the_answer_and_must_be_written_as_it_is(text: str, parsed: str | None, reward: int) -> None:
    grade = Compositional().grade(Question("q", "(a(3+5)*b(2*7))", "2"), text)
    assert (grade.parsed, grade.reward) == (parsed, reward)


def test_nothing_but_the_metadata_gives_the_answer_away() -> None:
    task = Compositional(**SMALL)
    assert len({q.instruction for q in task.questions("test")}) == 1
    assert "modulo 10" in task.questions("test")[0].instruction
    assert len({q.answer for q in task.questions("test")}) == 10


def test_floors_are_those_of_the_answers() -> None:
    task = Compositional(**SMALL)
    answers = [q.answer for q in task.questions("test")]
    floors = task.floors("test")
    assert floors.chance == pytest.approx(0.1)
    assert floors.best_constant == max(map(answers.count, answers)) / len(answers)


EASY: list[dict] = [{"depth": d, "easy": s} for d, s in ((3, 0.6), (3, 1.0), (4, 0.5), (2, 0.25))]
EASY += [{"depth": 3, "easy": 0.5, "live_parts": 3}, {"depth": 4, "easy": 1.0, "live_parts": 5}]
EASY += [{"kind": "boolean", "depth": 3, "operators": "&|^", "easy": 1.0}]
EASY += [{"depth": 3, "operators": "*", "easy": 1.0}]
EASY += [{"depth": 3, "modulus": 7, "operators": "-+", "easy": 0.5}]
MINI = {"train_size": 2000, "validation_size": 50, "test_size": 100}


def rest_changes_nothing(question: Question, live: int) -> bool:
    """Whether all leaves after the first `live` parts are one digit, and the value is that of the text without them."""
    text = list(re.sub("[a-r]", "", question.text))
    leaves: list[str] = []

    def alive() -> str | None:  # the next expression, None where all its leaves are dead
        if (symbol := text.pop(0)) != "(":
            leaves.append(symbol)
            return symbol if len(leaves) <= 2 * live else None
        left, operator, right, _ = alive(), text.pop(0), alive(), text.pop(0)
        return left if right is None else f"({left}{operator}{right})"

    rest = alive()
    assert rest is not None
    modulus = 2 if question.id.startswith("boolean") else int(question.id.split(":")[0].split("mod")[1])
    return len(set(leaves[2 * live :])) == 1 and str(by_hand(rest, modulus)) == question.answer


@pytest.mark.parametrize("options", EASY, ids=str)
def test_the_share_asked_for_of_the_training_questions_is_easy(options: dict) -> None:
    plain = {k: v for k, v in options.items() if k not in ("easy", "live_parts")}
    live = options.get("live_parts", 2 ** options["depth"] // 4)
    share, usual = (
        sum(rest_changes_nothing(q, live) for q in asked) / len(asked)
        for asked in (Compositional(**o, **MINI).questions("train") for o in (options, plain))
    )
    mine = options["easy"]
    assert share == pytest.approx(mine + (1 - mine) * usual, abs=0.01)
    assert usual < 0.3
    if mine == 1:
        assert share == 1


@pytest.mark.parametrize("options", EASY, ids=str)
def test_easy_questions_are_true_distinct_and_in_the_train_split_alone(options: dict) -> None:
    task = Compositional(**options, **MINI)
    plain = Compositional(**{k: v for k, v in options.items() if k != "easy"}, **MINI)
    modulus = None if task.space.kind == "boolean" else task.space.modulus
    train = task.questions("train")
    assert all(q.answer == str(by_hand(q.text, modulus)) for q in train)
    assert len({q.id for q in train}) == len(train)
    text = np.array([list(q.text.encode()) for q in train], np.uint8)
    assert not splits_of(text).any()
    for split in ("validation", "test"):
        assert task.questions(split) == plain.questions(split)


def test_easy_and_other_questions_are_mixed() -> None:
    asked = Compositional(depth=3, easy=0.5, **MINI).questions("train")
    assert sum(rest_changes_nothing(q, 2) for q in asked[:500]) == pytest.approx(250, abs=60)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "roman"},
        {"depth": 0},
        {"depth": 5},
        {"modulus": 11},
        {"kind": "boolean", "modulus": 2},
        {"operators": "+/"},
        {"operators": "++"},
        {"operators": ""},
        {"test_size": -1},
        {"easy": 1.5},
        {"depth": 1, "easy": 0.5},
        {"depth": 3, "easy": 0.5, "live_parts": 4},
        {"depth": 3, "easy": 0.5, "live_parts": 0},
    ],
    ids=str,
)
def test_impossible_options_are_refused_with_the_value_named(options: dict) -> None:
    with pytest.raises(TaskError, match=re.escape(repr(list(options.values())[-1]))):
        Compositional(**options)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(TaskError, match="'dev'"):
        Compositional().questions("dev")


def test_parts_that_do_not_count_may_be_joined_by_any_operator() -> None:
    common = {"depth": 3, "easy": 1.0, "live_parts": 3, **MINI}
    asked = {n: Compositional(neutral=n, **common).questions("train") for n in (True, False)}
    dead = re.compile(r"c\(\d[+*]\d\)([+*])d\(0[+*]0\)")
    joins = {n: [m.group(1) for q in asked[n] if (m := dead.search(q.text))] for n in asked}
    assert all(len(joins[n]) == len(asked[n]) for n in asked), "d's leaves are 0 in all of them"
    assert set(joins[True]) == {"+"}
    assert joins[False].count("*") == pytest.approx(len(asked[False]) / 2, rel=0.1)
    assert all(q.answer == str(by_hand(q.text, 10)) for q in asked[False])
