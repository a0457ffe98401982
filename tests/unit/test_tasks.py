"""Benchmarks: what is asked, how it is graded, which question stands in which split, and what floors it has."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from neuromas import tasks
from neuromas.errors import TaskError
from neuromas.tasks import SPLITS, Task, list_tasks, load_task, parsing, register
from neuromas.tasks.compositional import Compositional
from neuromas.tasks.words import normalise

PUBLISHED = [name for name in list_tasks() if name == "bbh/navigate" or name.startswith(("arc", "mmlu"))]
HOSTILE = [
    "",
    " ",
    "\n" * 50_000,
    "A" * 200_000,
    "(" * 100_000,
    "9" * 200_000,
    "\x00\ud800",
    "𝔄. Ⓑ 答えはB",
    "<|im_end|>",
]
HOSTILE += ["answer is " * 20_000, "**" * 50_000, "no" * 50_000, "-" * 100_000, "1," * 100_000, "\\boxed{" * 20_000]

real_data = pytest.mark.skipif(
    not os.environ.get("NEUROMAS_DATA"), reason="NEUROMAS_DATA names no folder with the benchmarks' files"
)


# -- a folder of invented rows ------------------------------------------------------------------------------


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def navigate_row(i: int, split: str = "train") -> dict[str, str]:
    steps = f"Take {i} steps left. Take {i + i % 2} steps right. {'' if split == 'train' else 'Turn around.'}"
    asked = f"If you follow these instructions, do you return to the starting point? {steps.strip()}"
    return {"input": f"{asked}\nOptions:\n- Yes\n- No", "target": "No" if i % 2 else "Yes"}


def arc_row(i: int, labels: str = "ABCD", split: str = "train") -> dict[str, Any]:
    choices = {"text": [f"thing {i}{label}" for label in labels], "label": list(labels)}
    return {"id": f"{split}_{i}", "question": f"Which {split} {i}?", "choices": choices, "answerKey": labels[i % 3]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from neuromas.tasks.mmlu import SUBJECTS

    write(tmp_path, "bbh_navigate_train", [navigate_row(i) for i in range(20)])
    write(tmp_path, "bbh_navigate_test", [navigate_row(i, "test") for i in range(20)])
    write(tmp_path, "arc_challenge_train", [arc_row(i) for i in range(20)])
    odd = ["1234", "ABC", "ABCDE", "ABCD"]
    write(tmp_path, "arc_challenge_test", [arc_row(i, odd[i % 4], "test") for i in range(20)])
    rows = [
        {"question": f"{subject} {i}?", "subject": subject, "choices": ["w", "x", "y", "z"], "answer": i % 4}
        for subject in SUBJECTS
        for i in range(20)
    ]
    write(tmp_path, "mmlu_test", rows)
    monkeypatch.setenv("NEUROMAS_DATA", str(tmp_path))
    return tmp_path


def texts(task: Task, split: Any) -> set[str]:
    return {normalise(q.text) for q in task.questions(split)}


def check_gold_and_wrong(task: Task) -> None:
    for question in task.questions("test"):
        assert task.grade(question, question.answer).reward == 1.0
        assert task.grade(question, f" {question.answer}.").reward == 1.0
        assert task.grade(question, f"{question.answer_prefix} {question.answer}").reward == 1.0
        choices = task.choices(question)
        wrong = [c for c in choices if c != question.answer] if choices else [f"{int(question.answer) + 1}"]
        assert choices is None or len(wrong) == len(choices) - 1
        for answer in wrong:
            verdict = task.grade(question, answer)
            assert (verdict.reward, verdict.parsed) == (0.0, answer)


def check_disjoint(task: Task) -> None:
    train, validation, test = (texts(task, split) for split in SPLITS)
    assert train and test
    assert not train & validation and not train & test and not validation & test
    ids = [q.id for split in SPLITS for q in task.questions(split)]
    assert len(set(ids)) == len(ids)


def check_hostile(task: Task) -> None:
    question = task.questions("test")[0]
    for text in HOSTILE:
        verdict = task.grade(question, text)
        assert 0.0 <= verdict.reward <= 1.0
        json.dumps(verdict.parsed)


# -- the real data ------------------------------------------------------------------------------------------


@real_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_gold_answers_score_1_and_wrong_ones_0(name: str) -> None:
    check_gold_and_wrong(load_task(name))


@real_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_splits_share_no_question(name: str) -> None:
    check_disjoint(load_task(name))


@real_data
def test_published_test_splits_are_complete() -> None:
    sizes = {name: len(load_task(name).questions("test")) for name in PUBLISHED}
    assert sizes["bbh/navigate"] == 250 and sizes["arc-challenge"] == 1172
    assert sizes["mmlu/abstract_algebra"] == 100 and sizes["mmlu/professional_medicine"] == 272


@real_data
def test_no_arc_or_mmlu_stem_stands_in_two_splits() -> None:
    for name in ("arc-challenge", "mmlu/college_physics"):
        task = load_task(name)
        stems = [{normalise(q.metadata["stem"]) for q in task.questions(split)} for split in SPLITS]
        assert not stems[0] & stems[1] and not stems[0] & stems[2] and not stems[1] & stems[2]


@real_data
def test_navigate_floors_are_those_that_the_published_numbers_fall_below() -> None:
    task = load_task("bbh/navigate")
    floors = task.floors("test")
    assert (floors.chance, floors.best_constant, floors.constant_answer) == (0.5, 0.58, "No")
    first = task.questions("test")[:200]
    assert sum(q.answer == "Yes" for q in first) == 81  # the published order: "always Yes" scores 40.5 % here
    assert task.floors("validation").best_constant == 0.5


@real_data
def test_mmlu_floors() -> None:
    physics, medicine = (load_task(f"mmlu/{s}").floors("test") for s in ("college_physics", "professional_medicine"))
    assert (round(physics.best_constant, 3), physics.constant_answer) == (0.373, "D")
    assert (round(medicine.best_constant, 3), medicine.constant_answer) == (0.449, "D")


# -- invented data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_benchmark_works_on_a_folder_of_rows(folder: Path, name: str) -> None:
    task = load_task(name, validation_size=6)
    check_gold_and_wrong(task)
    check_disjoint(task)
    check_hostile(task)
    described = task.describe()
    assert described["name"] == name and described["sizes"]["validation"] == 6 and described["sizes"]["test"] == 20
    json.dumps(described)


def test_navigate_is_asked_without_its_options_and_validation_is_balanced(folder: Path) -> None:
    task = load_task("bbh/navigate", validation_size=6)
    question = task.questions("test")[3]
    assert question.text.endswith("Take 3 steps left. Take 4 steps right. Turn around.")
    assert (question.answer, question.instruction, question.answer_prefix) == ("No", "Answer with only Yes or No.", "")
    assert sorted(q.answer for q in task.questions("validation")) == ["No"] * 3 + ["Yes"] * 3


def test_arc_options_are_lettered_whatever_their_labels_and_number(folder: Path) -> None:
    task = load_task("arc-challenge", validation_size=0)
    digits, three, five, _ = task.questions("test")[:4]
    assert digits.text == "Which test 0?\nA. thing 01\nB. thing 02\nC. thing 03\nD. thing 04" and digits.answer == "A"
    assert (three.text.count("\n"), five.text.count("\n")) == (3, 5)
    assert task.grade(three, "D").parsed is None and task.grade(five, "E").parsed == "E"
    assert task.floors("test").chance == pytest.approx((1 / 4 + 1 / 3 + 1 / 5 + 1 / 4) / 4)


def test_mmlu_trains_on_the_nine_other_subjects(folder: Path) -> None:
    task = load_task("mmlu/college_physics", validation_size=30)
    seen = {q.text.split()[0] for split in ("train", "validation") for q in task.questions(split)}
    assert len(seen) == 9 and "college_physics" not in seen and "abstract_algebra" not in seen
    assert len(load_task("mmlu/anatomy", validation_size=0).questions("train")) == 160
    assert task.questions("test")[1].id == "college_physics-1"


def test_training_rows_that_occur_in_the_test_split_or_twice_are_dropped(folder: Path) -> None:
    test = navigate_row(5, "test")
    copy = {**test, "input": test["input"].upper().replace("\nOPTIONS:\n- YES\n- NO", "  \nOptions:\n- Yes\n- No")}
    write(folder, "bbh_navigate_train", [copy, *(navigate_row(i) for i in range(20)), navigate_row(7)])
    task = load_task("bbh/navigate", validation_size=4)
    assert len(task.questions("train")) == 16
    check_disjoint(task)


def test_parquet_files_are_read_as_well(folder: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    before = load_task("arc-challenge", validation_size=2).questions("train")
    file = folder / "arc_challenge_train.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.unlink()
    parquet.write_table(pa.Table.from_pylist(rows), folder / "arc_challenge_train.parquet")
    assert load_task("arc-challenge", validation_size=2).questions("train") == before


@pytest.mark.slow
def test_splits_are_the_same_in_every_process_and_depend_on_the_seed(folder: Path) -> None:
    code = (
        "import hashlib; from neuromas.tasks import load_task, SPLITS\n"
        "for n, o in (('bbh/navigate', {}), ('mmlu/anatomy', {}), ('reasoning-gym/chain_sum', {'test_size': 9})):\n"
        "    t = load_task(n, validation_size=8, **o)\n"
        "    ids = [q.id + q.text for s in SPLITS for q in t.questions(s)]\n"
        "    print(hashlib.sha256(repr(ids).encode()).hexdigest())\n"
    )
    pytest.importorskip("reasoning_gym")
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and len(runs[0].split()) == 3
    first, again, other = (load_task("arc-challenge", validation_size=8, seed=s) for s in (0, 0, 1))
    assert first.questions("validation") == again.questions("validation") == first.questions("validation")
    assert first.questions("validation") != other.questions("validation")
    assert first.questions("test") == other.questions("test")


def test_floors_of_a_split_without_questions_say_so(folder: Path) -> None:
    with pytest.raises(TaskError, match="no validation questions"):
        load_task("arc-challenge", validation_size=0).floors("validation")


# -- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("arc-chalenge", {}, ["arc-chalenge", "arc-challenge"]),
        ("navigate", {}, ["bbh/navigate"]),
        ("mmlu/astrology", {}, ["mmlu/astrology", "mean", "mmlu/"]),
        ("", {}, ["unknown task ''", "mean"]),
        ("arc-challenge", {"depth": 3}, ["depth", "validation_size, seed"]),
        ("mmlu/anatomy", {"subject": "x"}, ["subject", "validation_size, seed"]),
        ("compositional", {"deep": 3}, ["deep", "depth"]),
        ("bbh/navigate", {"validation_size": -1}, ["validation_size", "-1"]),
        ("bbh/navigate", {"validation_size": "many"}, ["validation_size", "many"]),
    ],
)
def test_unknown_names_and_options_are_answered_with_valid_ones(
    name: str, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(TaskError) as error:
        load_task(name, **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_unknown_split_is_refused(folder: Path) -> None:
    with pytest.raises(TaskError, match="no split 'dev'; it has train, validation, test"):
        load_task("arc-challenge").questions("dev")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["arc_challenge_train.jsonl", "arc_challenge_train.parquet", "unset NEUROMAS_DATA"]),
        ("", ["no rows", "complete copy"]),
        ("{oops\n", ["line 1", "not JSON", "one object a line"]),
        ("[1]\n", ["line 1", "not a JSON object"]),
        ('{"id": "1"}\n', ["row 1", "question", "columns must be"]),
        ('{"id": 1, "question": "?", "choices": 3, "answerKey": "A"}', ["row 1", "do not fit", "correct the row"]),
        (json.dumps({**arc_row(1), "answerKey": "Z"}), ["row 1", "'Z'", "correct the row"]),
        (json.dumps(arc_row(1)), ["validation_size=150", "smaller"]),
        (b"\xff\xfe\x00", ["cannot read", "replace the file"]),
    ],
)
def test_bad_files_are_named_with_a_remedy(folder: Path, content: str | bytes | None, words: list[str]) -> None:
    file = folder / "arc_challenge_train.jsonl"
    file.unlink()
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TaskError) as error:
        load_task("arc-challenge").questions("train")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_bad_rows_of_the_other_benchmarks_are_named_too(folder: Path) -> None:
    write(folder, "bbh_navigate_test", [{"input": "Walk?", "target": "Perhaps"}])
    with pytest.raises(TaskError, match="'Perhaps' is neither Yes nor No; correct the row"):
        load_task("bbh/navigate").questions("test")
    write(folder, "mmlu_test", [{"question": "?", "subject": "anatomy", "choices": ["a", "b"], "answer": 2}])
    with pytest.raises(TaskError, match="row 1: answer 2 must be the 0-based index"):
        load_task("mmlu/medical_genetics").questions("test")
    write(folder, "mmlu_test", [{"question": "?", "subject": "law", "choices": ["a", "b"], "answer": 1}])
    with pytest.raises(TaskError, match="no row of subject"):
        load_task("mmlu/medical_genetics").questions("test")


def test_a_folder_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMAS_DATA", "/no/such/folder")
    with pytest.raises(TaskError, match="/no/such/folder is not a folder; name an existing one"):
        load_task("bbh/navigate").questions("test")


# -- the hub, faked -----------------------------------------------------------------------------------------


def fake_hub(monkeypatch: pytest.MonkeyPatch, tables: dict[tuple[str, str, str], Any]) -> None:
    def load_dataset(path: str, config: str, split: str) -> Any:
        if (path, config, split) not in tables:
            raise ConnectionError("no route to the hub")
        return tables[path, config, split]

    monkeypatch.delenv("NEUROMAS_DATA", raising=False)
    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_navigate_trains_on_big_bench_without_the_test_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    test = [navigate_row(i, "test") for i in range(10)]
    prefix, tail = "If you follow these instructions, do you return to the starting point?", "\nOptions:\n- Yes\n- No"

    def big(row: dict[str, str]) -> dict[str, Any]:
        steps = row["input"].removeprefix(prefix).removesuffix(tail).strip()
        return {"inputs": f"{prefix}\nQ: {steps}\nA:", "targets": ["True" if row["target"] == "Yes" else "False"]}

    everything = [big(row) for row in [*test, *(navigate_row(i) for i in range(10))]]
    tables = {
        ("lukaemon/bbh", "navigate", "test"): test,
        ("tasksource/bigbench", "navigate", "train+validation"): everything,
    }
    fake_hub(monkeypatch, tables)
    task = load_task("bbh/navigate", validation_size=2)
    assert len(task.questions("train")) == 8
    check_disjoint(task)
    expected = {normalise(navigate_row(i)["input"].removesuffix(tail)) for i in range(10)}
    assert texts(task, "train") | texts(task, "validation") == expected


def test_hub_failures_name_the_data_set_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, {})
    with pytest.raises(TaskError, match=r"allenai/ai2_arc.*no route to the hub.*set NEUROMAS_DATA"):
        load_task("arc-challenge").questions("test")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TaskError, match=r"pip install datasets.*NEUROMAS_DATA"):
        load_task("mmlu/anatomy").questions("test")


# -- reading replies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[
            (t, "B")
            for t in ("B", "B.", "(B)", " B ", "**B**", "B)", "b", "b.", "(b)", "[B]", "`B`", "'B'", "B\n", "B:")
        ],
        *[
            (t, "B")
            for t in ("The answer is B", "the answer is (B).", "Answer: B", "**Answer:** B", "Option B", "B, so")
        ],
        *[(t, "B") for t in ("B. wet palms", "B is right", "B because it is wet", ": B", "B Wet palms", "$B$")],
        *[(t, "B") for t in ("I believe the answer is **B**, not A", "The correct answer is option B", r"\boxed{B}")],
        *[
            (t, "B")
            for t in ("I pick option B here", "It must be (B), clearly", r"So, $\boxed{\text{B}}$", "Answer is: B.")
        ],
        ("A. dog", "A"),
        ("A", "A"),
        ("A is the one", "A"),
        ("A dog barks", None),
        ("a dog barks", None),
        ("The answer is a dog", None),
        ("The answer is A dog", None),
        ("A-levels", None),
        ("A/B", None),
        ("D.C. is a city", None),
        ("d.c.", None),
        ("Because", None),
        ("Cells", None),
        ("BC", None),
        ("E", None),
        ("E.", None),
        ("vitamin C helps", None),
        ("I don't know", None),
        ("The answer is not B", None),
        ("", None),
        ("...", None),
        ("B2", None),
        ("ß", None),
    ],
)
def test_letters(text: str, expected: str | None) -> None:
    assert parsing.letter(text, "ABCD") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(t, "Yes") for t in ("Yes", "yes.", "YES", "**Yes**", "The answer is yes, not no", "(Yes)")],
        *[(t, "No") for t in ("No", "no", "No, because", "Answer: NO!", "1. No", "no.Yes")],
        *[(t, None) for t in ("", "not", "Yesterday", "nobody knows", "maybe", "no-one", "noyes", "noé", "y", "N")],
    ],
)
def test_yes_and_no(text: str, expected: str | None) -> None:
    assert parsing.yes_no(text) == expected


# -- reasoning-gym ------------------------------------------------------------------------------------------


@pytest.fixture
def sums() -> Task:
    pytest.importorskip("reasoning_gym")
    digit = {"max_digits": 1, "max_terms": 2}
    sizes = {"train_size": 120, "validation_size": 12, "test_size": 30}
    return load_task("reasoning-gym/chain_sum+products", chain_sum=digit, products=digit, **sizes)


@pytest.mark.slow
def test_joined_data_sets_are_graded_by_the_stated_number(sums: Task) -> None:
    assert {q.metadata["dataset"] for q in sums.questions("train")} == {"chain_sum", "products"}
    assert [len(sums.questions(split)) for split in SPLITS] == [120, 12, 30]
    assert sums.max_answer_tokens == 16
    check_gold_and_wrong(sums)
    check_disjoint(sums)
    check_hostile(sums)
    question = sums.questions("test")[0]
    assert sums.grade(question, f" {question.answer}. So 99").reward == 1.0
    assert sums.grade(question, f"The final answer is 9 + 98 = {question.answer}.").reward == 1.0
    assert sums.grade(question, f"<think>{question.answer}</think> 3141").reward == 0.0
    assert sums.grade(question, "none").parsed is None
    assert sums.floors("test").chance == 0.0


def test_a_small_data_set_gives_all_it_has_each_question_once() -> None:
    pytest.importorskip("reasoning_gym")
    task = load_task("reasoning-gym/products", max_digits=1)
    sizes = [len(task.questions(split)) for split in SPLITS]
    assert sum(sizes) == 100 and all(sizes)
    check_disjoint(task)


@pytest.mark.slow
def test_which_split_a_question_is_in_depends_on_neither_seed_nor_size() -> None:
    pytest.importorskip("reasoning_gym")
    small, other = (
        load_task("reasoning-gym/chain_sum", max_terms=3, max_digits=2, **o)
        for o in ({"train_size": 50, "validation_size": 10, "test_size": 10}, {"train_size": 900, "seed": 7})
    )
    assert small.questions("train") != other.questions("train")[:50]
    assert not texts(small, "test") & texts(other, "train") and not texts(small, "train") & texts(other, "test")


def test_different_but_equal_formulas_are_right() -> None:
    pytest.importorskip("reasoning_gym")
    task = load_task("reasoning-gym/simple_integration", train_size=40, validation_size=1, test_size=1)
    right = [task.grade(q, q.answer.replace(" + C", " + 7 + C")).reward for q in task.questions("train")]
    assert sum(right) == len(right)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("chain_sums", {}, ["chain_sums", "chain_sum"]),
        ("chain_sum+chain_sum", {}, ["twice"]),
        ("chain_sum", {"depth": 1}, ["depth", "max_terms", "train_size"]),
        ("chain_sum", {"size": 1}, ["size", "train_size"]),
        ("chain_sum", {"min_terms": 9, "max_terms": 2}, ["rejects", "max_terms must be >= min_terms"]),
        ("chain_sum", {"train_size": -1}, ["train_size", "-1"]),
        ("chain_sum+products", {"max_terms": 2}, ["max_terms", "chain_sum, products", "table"]),
        ("chain_sum+products", {"products": 2}, ["products", "table"]),
        ("chain_sum+products", {"products": {"x": 2}}, ["'x'", "max_terms"]),
    ],
)
def test_wrong_reasoning_gym_settings_are_named(name: str, options: dict[str, Any], words: list[str]) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(TaskError) as error:
        load_task(f"reasoning-gym/{name}", **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("reasoning_gym", "reasoning_gym.factory"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TaskError, match="pip install reasoning-gym"):
        load_task("reasoning-gym/lcm")


# -- speed --------------------------------------------------------------------------------------------------


def test_listing_and_loading_imports_no_heavy_package() -> None:
    code = (
        "import sys; from neuromas.tasks import list_tasks, load_task; list_tasks()\n"
        "[load_task(n) for n in list_tasks() if n[:4] in ('mmlu', 'arc-', 'bbh/')]\n"
        "heavy = {'torch', 'reasoning_gym', 'datasets', 'pandas', 'pyarrow', 'numpy', 'sympy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_every_listed_task_shows_a_sample_and_a_line_about_it() -> None:
    pytest.importorskip("reasoning_gym")
    for name, line in list_tasks().items():
        task = load_task(name)
        assert task.name == name and task.version >= 1 and line
        assert "sample" in (type(task).__doc__ or "") and "answer" in (type(task).__doc__ or "")


def test_a_task_in_python_is_known_by_its_name_with_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_REGISTERED", {})
    register("mine", Compositional, "my own")
    assert list_tasks()["mine"] == "my own"
    found = load_task("mine", depth=3, train_size=4)
    assert isinstance(found, Compositional) and len(found.questions("train")) == 4
    with pytest.raises(TaskError, match="has no option 'width'"):
        load_task("mine", width=3)
    with pytest.raises(TaskError, match="did you mean mine"):
        load_task("mines")


@pytest.mark.parametrize("name", ["compositional", "bbh/navigate", "x.toml", "reasoning-gym/mine", ""])
def test_a_name_that_means_something_else_cannot_be_registered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_REGISTERED", {})
    with pytest.raises(TaskError, match="means something else"):
        register(name, Compositional)
    assert name not in tasks._REGISTERED
