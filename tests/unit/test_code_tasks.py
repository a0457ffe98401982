"""HumanEval, MBPP and GSM8K: the program or number in a reply, and its grade; what each task learns from."""

import json
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import attacks
from neuromas.errors import TaskError
from neuromas.tasks import SPLITS, list_tasks, load_task, numerals, parsing
from neuromas.tasks.humaneval import HumanEval, complete
from neuromas.tasks.mbpp import Mbpp, whole
from neuromas.tasks.words import normalise
from neuromas.types import Grade, Question

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox is Linux only")
real_data = pytest.mark.skipif(
    not os.environ.get("NEUROMAS_DATA"), reason="NEUROMAS_DATA names no folder with the benchmarks' files"
)
PROMPT = 'import math\n\n\ndef helper(x):\n    return x + 1\n\n\ndef double(x):\n    """Twice x."""\n'


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def humaneval_row(i: int) -> dict[str, Any]:
    return {
        "task_id": f"HumanEval/{i}", "prompt": PROMPT.replace("Twice", f"{i} Twice"), "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(4) == 8\n    assert candidate(helper(1)) == double(2) < 5",
    }  # fmt: skip


def mbpp_row(i: int) -> dict[str, Any]:
    tests = [f"assert add_{i}({n}) == {n + i}" for n in (1, 5, 7)]
    code = f"import sys\r\ndef add_{i}(x):\r\n\treturn x + {i}"
    return {"task_id": i, "text": f"Add {i}.", "code": code, "test_list": tests, "test_setup_code": ""}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, "humaneval_test", [humaneval_row(i) for i in range(4)])
    write(tmp_path, "mbpp", [mbpp_row(i) for i in (*range(1, 21), *range(511, 521), *range(601, 611))])
    row = lambda i, split: {"question": f"What is {i} and {i} of {split}?", "answer": f"<<{i}+{i}>>.\n#### {2 * i:,}"}
    for split in ("train", "test"):
        write(tmp_path, f"gsm8k_{split}", [row(i, split) for i in range(600, 612)])
    monkeypatch.setenv("NEUROMAS_DATA", str(tmp_path))
    return tmp_path


# -- the program in a reply -----------------------------------------------------------------------------------

BODY, WHOLE = "    return 2 * x\n", "def double(x):\n    return 2 * x\n"


@pytest.mark.parametrize(
    "reply, added",
    [
        (BODY, BODY),
        (f"{BODY}```\nThis doubles x.", BODY),
        (f"{BODY}\n\nprint(double(3))", BODY + "\n"),
        (f"{BODY}\n\ndef other():\n    pass", BODY + "\n"),
        (f"{BODY}# and so on", "    return 2 * x"),
        ("return 2 * x", "    return 2 * x"),
        ("if x:\n    return 2 * x\nreturn 0", "    if x:\n        return 2 * x\n    return 0"),
        (f"\n{BODY}", f"\n{BODY}"),
        (WHOLE, f"\n\n{WHOLE}"),
        (f"{PROMPT}{BODY}```", f"\n\n{PROMPT}{BODY}"),
        (f"```python\n{WHOLE}```", f"\n\n{WHOLE}"),
        (f"Sure!\n```python\n{WHOLE}```\nDone.", f"\n\n{WHOLE}"),
        (f"```\nprint(1)\n```\nthen\n```py\n{WHOLE}", f"\n\n{WHOLE}"),
        (f"```python\n{BODY}```", BODY),
        ("```python\nimport re\nasync def double(x): ...\n```", "\n\nimport re\nasync def double(x): ...\n"),
        ("double = lambda x: 2 * x", "\n\ndouble = lambda x: 2 * x"),
    ],
)
def test_a_reply_goes_on_with_the_function_or_gives_it_whole(reply: str, added: str) -> None:
    assert complete(PROMPT, "double", reply) == PROMPT + added


@pytest.mark.parametrize("reply", ["", " \n\t\n", "```", "```python\n```", "```\n\n```\n"])
def test_no_code_is_not_parsed(folder: Path, reply: str) -> None:
    question = load_task("humaneval", validation_size=2).questions("test")[0]
    task = load_task("humaneval", validation_size=2)
    assert complete(PROMPT, "double", reply) is None
    if sys.platform.startswith("linux"):
        assert task.grade(question, question.answer_prefix + reply) == Grade(0.0, None)


@pytest.mark.parametrize(
    "reply, program",
    [
        ("def add_601(x): pass", "def add_601(x): pass"),
        ("def add_601(x): pass\n```\nHere.", "def add_601(x): pass\n"),
        ("Here:\n```python\ndef add_601(x): pass\n```", "def add_601(x): pass\n"),
        ("```\nx = 1\n```\n```\ndef add_601(x): pass\n```", "def add_601(x): pass\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```\nadd_601: object = abs\n```\n```\nx = 1\n```", "add_601: object = abs\n"),
        ("1. So:\n    ```python\n    def add_601(x):\n        pass\n    ```\n2. Done", "def add_601(x):\n    pass\n"),
        ("- ```python\n  def add_601(x): pass\n  ```", "def add_601(x): pass\n"),
        ("~~~python\ndef add_601(x): pass\n~~~", "def add_601(x): pass\n"),
        ("~~~\ndef add_601(x):\n    '```'\n~~~\nDone", "def add_601(x):\n    '```'\n"),
        ("````python\ndef add_601(x):\n    '''\n```\n    '''\n````", "def add_601(x):\n    '''\n```\n    '''\n"),
        ('```python title="a.py"\ndef add_601(x): pass\n```', "def add_601(x): pass\n"),
        ("```\nimport re\n```\nthen\n```\ndef add_601(x): pass\n```", "import re\n\ndef add_601(x): pass\n"),
        (
            "```\ndef add_601(x): return h(x)\n```\n```\ndef h(x):\n    return x\n```\n```\nprint(add_601(1))\n```",
            "def h(x):\n    return x\n\ndef add_601(x): return h(x)\n",
        ),
        ("import re\n```\nand\n```python\ndef add_601(x): pass\n```", "import re\n\ndef add_601(x): pass\n"),
        ("```\n```", None),
        ("", None),
    ],
)
def test_the_first_block_with_the_wanted_name_is_the_program(folder: Path, reply: str, program: str | None) -> None:
    task = load_task("mbpp", validation_size=2)
    assert isinstance(task, Mbpp)
    question = next(q for s in ("train", "validation") for q in task.questions(s) if q.id == "mbpp-601")
    assert task.program(question, reply) == program


RIGHT, DRAFT = "def add_601(x):\n    return x + 601\n", "def add_601(x):\n    return x\n"
LISTED = "".join(f"    {line}\n" for line in RIGHT.splitlines())
WAYS = [  # of a right program; {} is the program, and the prefix has opened no block
    "{}",
    "\n\n{}",
    "```python\n{}```",
    "```\n{}```",
    "```py\n{}\n```",
    "```Python3\n{}```",
    "```python\n{}",
    "~~~python\n{}~~~",
    "~~~\n{}~~~",
    "````python\n{}````",
    "````\n{}\n````\nDone.",
    "Here:\n```python\n{}```\nIt adds.",
    "```python\r\n{}```",
    "``` python\n{}```",
    "```python title='a.py'\n{}```",
    "1. Code:\n    ```python\n" + LISTED + "    ```\n2. Done.",
    "* Code:\n\n    ```\n" + LISTED + "    ```",
    "```python:solution.py\n{}```",
    "> So:\n> ```python\n" + "".join(f"> {line}\n" for line in RIGHT.splitlines()) + "> ```\n> Done.",
    "- So\n    ~~~\n" + LISTED + "    ~~~",
    "```python\nimport math\n```\n```python\n{}```",
    "```python\n{}```\nTest:\n```python\nassert add_601(1) == 602\n```",
    "```\n$ python a.py\n```\n```python\n{}```",
    "<think>No code.</think>{}",
    "<think>\n```python\n{draft}```\n</think>\n```python\n{}```",
    "<think></think>\n\n```\n{}```",
    "{}```\nThat is all.",
    "Sure! Here is the code:\n\n{}\nThis function adds 601 to its argument.",
    "[PYTHON]\n{}[/PYTHON]",
    "<code>\n{}</code>",
    "```python\n{}```<|im_end|>",
    "import math\n```\nand\n```python\n{}```",
    "```python\nN = 1\n```\nthen\n```python\n{}```",
    "```python\ndef helper(x):\n    return x\n```\n\n```python\n{}```",
    "```python\n# add\n{}```",
    "   ```python\n{}   ```",
    "```python\n{}```\n```python\nprint(add_601(1))\n```",
    "[THINK]add_601 = 1[/THINK]```python\n{}```",
]
MISSES = [  # replies that hold the right program and give another, or none
    "```python\n{draft}```",
    "<think>{}",
    "<think>```python\n{}```",
    "<think>{}</think>",
    "<think>```python\n{}```</think>",
    "<think>```python\n{}```</think>```python\n{draft}```",
    "[THINK]{}",
    "<reasoning>{}</reasoning>\n```\n{draft}```",
    "",
    "```python\n{draft}```\nor\n```python\n{}```",
    "{draft}```\nbetter:\n```python\n{}```",
    "```text\nx\n```",
    "I cannot.",
    *(
        f"{mark}\n```python\n{{}}```"  # thoughts that never end
        for mark in (
            "<thinking>",
            "<thought>",
            "<reasoning>",
            "<scratchpad>",
            "<analysis>",
            "<THINK>",
            "[THINK]",
            "◁think▷",
        )
    ),
    *(f"{mark}{{}}" for mark in ("<|begin_of_thought|>", "<|START_THINKING|>", "<|channel|>analysis<|message|>")),
    "<think>\n{}\n</think>\n\n{draft}",
    "[THINK]```python\n{}```[/THINK]I do not know.",
    "```python\n{}\n{draft}```",
    "```python\n{}\nadd_601 = None\n```",
    "```python\n{}\ndel add_601\n```",
    "```python\n{}raise SystemExit\n```",
    "```python\nimport no_such_module_at_all\n{}```",
    "```python\nraise ValueError\n{}```",
    "```python\n{}  )\n```",
    '```python\ntext = """\n{}"""\n```',
    "```python\nif False:\n" + LISTED + "```",
    "```python\ndef outer():\n" + LISTED + "```",
    "```python\nclass Outer:\n" + LISTED + "```",
    "```python\n" + "".join(f"# {line}\n" for line in RIGHT.splitlines()) + "```",
    "```python\n{draft}```\nAlternatively:\n```python\n{}```",
    "{draft}",
]


READERS = {
    "told": lambda reply: whole(TOLD, parsing.conclusion(reply)),
    "begun": lambda reply: complete("", "add_601", parsing.conclusion(reply)),
}
TOLD = Question("mbpp-601", "Add 601.", "", metadata={"names": ["add_601"]})


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("ways", "passes"), [(WAYS, True), (MISSES, False)], ids=["ways", "misses"])
def test_thirty_ways_to_write_a_program_and_thirty_to_miss_it(ways: list[str], passes: bool, reader: str) -> None:
    def right(reply: str) -> bool:
        found: dict[str, Any] = {}
        try:
            exec(READERS[reader](reply) or "", found)
            return found["add_601"](1) == 602
        except (Exception, SystemExit):
            return False

    assert len([way for way in ways if "{}" in way or "601" in way]) >= 30
    assert [reply for way in ways if right(reply := way.format(RIGHT, draft=DRAFT)) is not passes] == []


@linux
def test_a_draft_among_thoughts_is_not_what_runs(folder: Path) -> None:
    task = load_task("humaneval", validation_size=2)
    question = task.questions("test")[0]
    draft, final = "```python\ndef double(x):\n    return {}\n```".format, "<think>{}</think>\n\n{}".format
    replies = [final(draft("3"), draft("2 * x")), final(draft("2 * x"), draft("3")), f"<think>{draft('2 * x')}"]
    grades = task.grade_many([question] * 3, replies)
    assert [grade.reward for grade in grades] == [1, 0, 0] and grades[2].parsed is None


# -- grades ---------------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_gold_programs_score_1_and_wrong_ones_0(folder: Path, name: str) -> None:
    task = load_task(name, validation_size=2)
    for split in SPLITS:
        for question in task.questions(split)[:3]:
            gold = question.answer
            wrong = gold.replace("return", "return 1 +")
            replies = [gold, question.answer_prefix + gold, f"```python\n{gold}\n```", wrong, "    pass\n", gold[:-3]]
            grades = task.grade_many([question] * len(replies), replies)
            assert [g.reward for g in grades] == [1, 1, 1, 0, 0, 0], question.id
            assert grades[0].parsed and gold in grades[0].parsed
            assert task.grade(question, gold) == grades[0]


@linux
def test_equal_programs_run_once_and_grades_keep_their_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuromas.tasks import sandbox

    ran: list[int] = []
    real = sandbox.run_many
    monkeypatch.setattr(sandbox, "run_many", lambda jobs, limits: ran.append(len(jobs)) or real(jobs, limits))
    task = load_task("humaneval", validation_size=2)
    one, two = task.questions("test")[:2]
    asked = [one, two, one, one, two, one]
    replies = [BODY, BODY, "", "    return x\n", BODY, BODY]
    assert [g.reward for g in task.grade_many(asked, replies)] == [1, 1, 0, 0, 1, 1]
    assert ran == [3]


@linux
@pytest.mark.slow
def test_random_bytes_and_hostile_programs_leave_the_grader_right(folder: Path, tmp_path: Path) -> None:
    task = load_task("humaneval", validation_size=2, cpu_seconds=1)
    question = task.questions("test")[0]
    check = lambda: [g.reward for g in task.grade_many([question] * 2, [BODY, "    return 3 * x\n"])] == [1, 0]
    assert check()
    chance = random.Random(1)
    noise = [chance.randbytes(chance.randrange(1, 400)) for _ in range(1000)]
    texts = [b.decode("utf-8", ("surrogateescape", "replace")[i % 2]) for i, b in enumerate(noise)]
    assert not any(g.reward for g in task.grade_many([question] * len(texts), texts))
    assert check()
    canary = tmp_path / "canary"
    canary.write_text("a bird")
    names = {"HOME": Path.home(), "CANARY": canary, "SOURCE": __file__, "SECRET": "?", "PID": os.getpid(), "PORT": 9}
    programs = attacks.breakouts(**names) | attacks.forgeries()
    assert len(programs) >= 200
    grades = task.grade_many([question] * len(programs), [f"```python\n{p}\n```" for p in programs.values()])
    assert [name for name, grade in zip(programs, grades, strict=True) if grade.reward] == []
    assert canary.read_text() == "a bird"
    assert check()


@linux
@real_data
def test_the_first_official_solutions_pass_and_fail_where_changed() -> None:
    for name in ("humaneval", "mbpp"):
        task = load_task(name)
        asked = task.questions("test")[:12]
        assert all(g.reward == 1 for g in task.grade_many(asked, [q.answer for q in asked]))
        assert not any(g.reward for g in task.grade_many(asked, [f"{q.answer}\n    raise\n{{" for q in asked]))


@linux
@real_data
@pytest.mark.slow
def test_every_official_solution_passes_and_none_does_for_another_question() -> None:
    for name in ("humaneval", "mbpp"):
        task = load_task(name)
        for split in SPLITS:
            asked = task.questions(split)
            failed = [
                q.id
                for q, g in zip(asked, task.grade_many(asked, [q.answer for q in asked]), strict=True)
                if not g.reward
            ]
            assert failed == []
        asked = task.questions("test")
        shifted = [q.answer for q in [*asked[1:], asked[0]]]
        assert sum(g.reward for g in task.grade_many(asked, shifted)) <= 1


# -- what is asked --------------------------------------------------------------------------------------------


def test_humaneval_asks_as_mbpp_does_and_trains_on_it(folder: Path) -> None:
    task = load_task("humaneval", validation_size=3)
    assert isinstance(task, HumanEval)
    question = task.questions("test")[1]
    assert question.id == "HumanEval/1"
    assert {q.answer_prefix for s in SPLITS for q in task.questions(s)} == {"```python\n"}
    learned = {q.id for s in ("train", "validation") for q in task.questions(s)}
    assert learned == {f"mbpp-{i}" for i in range(601, 611)}
    assert len(task.questions("validation")) == 3 and len(task.questions("test")) == 4
    assert task.floors("test").constant_answer.startswith("solution of HumanEval/")


def test_mbpp_shows_one_test_and_grades_by_all(folder: Path) -> None:
    task = load_task("mbpp", validation_size=3)
    assert {q.id for q in task.questions("test")} == {f"mbpp-{i}" for i in range(11, 21)}
    question = task.questions("test")[0]
    assert question.text == "Add 11.\nYour code should satisfy this test:\nassert add_11(1) == 12"
    assert question.metadata["tests"].count("assert") == 3 and question.metadata["setup"] == ""
    if sys.platform.startswith("linux"):
        assert task.grade(question, "def add_11(x):\n    return 12").reward == 0
        assert task.grade(question, "def add_11(x):\n    return {1: 12}[x]").reward == 0


def test_validation_is_the_same_in_both_code_tasks_where_nothing_overlaps(folder: Path) -> None:
    one, two = (load_task(name, validation_size=3) for name in ("humaneval", "mbpp"))
    assert one.questions("validation") == two.questions("validation")


@pytest.mark.parametrize(
    "file, task, change, words",
    [
        ("humaneval_test", "humaneval", {"prompt": 3}, ["row 1", "prompt must be text", "correct the row"]),
        ("humaneval_test", "humaneval", {"entry_point": "triple"}, ["row 1", "'triple'"]),
        ("humaneval_test", "humaneval", {"test": "assert True"}, ["row 1", "do not belong"]),
        ("mbpp", "mbpp", {"task_id": 601, "test_list": []}, ["row 1", "test_list"]),
        ("mbpp", "mbpp", {"task_id": 601, "test_list": ["assert ("]}, ["row 1", "no Python"]),
        ("mbpp", "mbpp", {"task_id": 601, "test_list": ["assert 1"]}, ["row 1", "use nothing"]),
        ("gsm8k_train", "gsm8k", {"answer": "about 5"}, ["row 1", "#### and a number"]),
        ("gsm8k_train", "gsm8k", {"answer": "#### five"}, ["row 1", "#### and a number"]),
    ],
)
def test_bad_rows_are_named(folder: Path, file: str, task: str, change: dict[str, Any], words: list[str]) -> None:
    lines = (folder / f"{file}.jsonl").read_text().splitlines()
    write(folder, file, [{**json.loads(lines[0]), **change}, *map(json.loads, lines[1:21])])
    with pytest.raises(TaskError) as error:
        load_task(task, validation_size=1).questions("train")
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("name, file", [("gsm8k", "gsm8k_test"), ("humaneval", "humaneval_test"), ("mbpp", "mbpp")])
@pytest.mark.parametrize("content", [None, "", "{oops\n", '{"id": 1}\n', b"\xff\xfe\x00"])
def test_missing_or_garbled_files_are_named_with_a_remedy(
    folder: Path, name: str, file: str, content: str | bytes | None
) -> None:
    path = folder / f"{file}.jsonl"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TaskError, match=f"{file}.*(replace|put|write|must be)"):
        load_task(name).questions("test")


def test_computing_time_must_make_sense() -> None:
    with pytest.raises(TaskError, match="cpu_seconds must be a whole number of at least 1, got 0"):
        load_task("humaneval", cpu_seconds=0)


# -- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, number",
    [
        ("#### 42", "42"), ("5 + 5 = 10\n#### 10", "10"), ("#### 3\n\nQuestion: 7?\n#### 9", "3"), ("####7", "7"),
        ("#### $1,234.50 in all", "1234.5"), ("The answer is 18 dollars. It is not 19.", "18"),
        ("**Answer:** -3", "-3"),
        ("first 4, then 9.", "9"), ("so \\boxed{\\frac{3}{4}}", "3/4"), ("\\boxed{5} then \\boxed{6}", "6"),
        ("= 3/4", "3/4"),
        ("5-4", None), ("(-4)", "-4"), ("-$12", "-12"), ("−7", "-7"), ("1,2,3", None), ("50%", "50"), ("18kg", "18"),
        ("\\frac{-1}{2}", "-1/2"), ("-\\dfrac{1}{2}", "-1/2"), ("007", "7"), ("1.2.3", None),
        ("####", None), ("", None), ("none", None), ("a3", None), ("9" * 50_000, None), ("1e5", "100000"), ("²", None),
        ("\\boxed{x} and 8", "8"), ("####\n6", "6"),
    ],
)  # fmt: skip
def test_the_final_number(text: str, number: str | None) -> None:
    assert numerals.final(text) == number


@pytest.mark.parametrize(
    "gold, said, same",
    [
        ("18", "18", True), ("18", "18.0", True), ("0.5", "1/2", True), ("6/4", "3/2", True), ("-5", "5", False),
        ("18", "18.01", False), ("18", "180", False), ("7", "7/0", False), ("0", "1/0", False), ("1/3", "0.33", False),
        ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567891", False),
    ],
)  # fmt: skip
def test_equal_numbers(gold: str, said: str, same: bool) -> None:
    assert numerals.equal(gold, said) is same


def test_whatever_a_reply_says_a_number_is_plain_digits_of_bounded_length() -> None:
    chance = random.Random(2)
    parts = [
        "9",
        "**",
        "^",
        "{",
        "}",
        "\\frac{",
        "\\boxed{",
        "#### ",
        "1,000",
        ".5",
        "/",
        "-",
        "answer is ",
        "e",
        "!",
        " ",
    ]
    plain = re.compile(r"-?[0-9]{1,1100}(\.[0-9]{1,1100})?(/[0-9]{1,40})?")
    for _ in range(5000):
        number = numerals.final("".join(chance.choices(parts, k=chance.randrange(1, 40))))
        assert number is None or plain.fullmatch(number), number


def test_gsm8k_gold_scores_1_and_wrong_0(folder: Path) -> None:
    task = load_task("gsm8k", validation_size=2)
    question = task.questions("test")[0]
    assert question.answer == "1200" and question.metadata["solution"] == "<<600+600>>."
    for reply in ("1200", "#### 1,200", "It is $1200.00.", "\\boxed{1200}", "2400/2"):
        assert task.grade(question, reply).reward == 1, reply
    for reply in ("1201", "#### 12", "1200 or 1300", "-1200"):
        assert task.grade(question, reply).reward == 0, reply
    assert task.grade(question, "many").parsed is None
    assert [len(task.questions(s)) for s in SPLITS] == [10, 2, 12]


@real_data
def test_all_gsm8k_gold_answers_score_1() -> None:
    task = load_task("gsm8k")
    asked = task.questions("test")
    assert len(asked) == 1319
    for question in asked:
        solution = f"{question.metadata['solution']}\n#### {question.answer}"
        assert task.grade(question, question.answer).reward == task.grade(question, solution).reward == 1
        assert task.grade(question, str(int(question.answer) + 1)).reward == 0


# -- nothing tested is learned --------------------------------------------------------------------------------

PUBLISHED = [name for name in list_tasks() if not name.startswith(("compositional", "reasoning-gym"))]


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.casefold()))


@real_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_no_training_source_overlaps_the_test_items(name: str) -> None:
    task = load_task(name)
    learned = [q for split in ("train", "validation") for q in task.questions(split)]
    tested = task.questions("test")
    assert learned and tested
    for key in (
        lambda q: normalise(q.text),
        lambda q: words(q.text),
        lambda q: normalise(q.metadata.get("stem", q.text)),
    ):
        assert not {key(q) for q in learned} & {key(q) for q in tested}


@real_data
def test_no_mbpp_description_or_program_stands_in_humaneval() -> None:
    task = load_task("humaneval")
    learned = [q for split in ("train", "validation") for q in task.questions(split)]
    assert {int(q.id.removeprefix("mbpp-")) for q in learned} == set(range(601, 975))
    tested = [words(q.text) for q in task.questions("test")]
    assert [q.id for q in learned if any(words(q.metadata["stem"]) in text for text in tested)] == []
    solutions = {words(q.answer) for q in task.questions("test")}
    assert not solutions & {words(q.answer) for q in learned}


def test_every_listed_task_has_a_note_for_each_version() -> None:
    pytest.importorskip("reasoning_gym")
    for name in list_tasks():
        task = load_task(name)
        assert list(task.changes) == list(range(1, task.version + 1)), name
        assert all(note.endswith(".") for note in task.changes.values()), name


def test_descriptions_tell_the_change_notes() -> None:
    assert load_task("compositional").describe()["changes"] == {1: "First version."}
