"""Generated tasks of the package reasoning-gym: any of its data sets, or several joined into one task.

Which split a question belongs to is decided by a hash of its text, so the splits share no question, whatever the
seed and the sizes are.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache
from itertools import zip_longest
from typing import Any, ClassVar

from neuromas.errors import TaskError
from neuromas.tasks import parsing
from neuromas.tasks.base import SPLITS, Split, Task, check_split
from neuromas.tasks.data import digest, normalise
from neuromas.types import Grade, Question

Entry = dict[str, Any]  # reasoning-gym's record: question, answer, metadata
Settings = dict[str, Any]

_OWN = {"train_size": 2000, "validation_size": 200, "test_size": 500, "seed": 0}
_HELD_OUT_BEFORE = 65  # from this percentile on, version 1 had its validation and test questions
_CHUNK = 256  # questions generated with one seed
_PATIENCE = 2000  # questions in a row that are not new, after which a data set counts as exhausted
_INTEGER = re.compile(r"[-+]?[0-9]+")


def build(dataset: str, **options: Any) -> "ReasoningGym":
    """The task `reasoning-gym/<dataset>`, where `dataset` may join several: "chain_sum+products".

    `options`: train_size, validation_size, test_size (upper limits) and seed; besides, for one data set its own
    options (`max_terms=2`), for several a table of them each (`chain_sum={"max_terms": 2}`).
    """
    names = dataset.split("+")
    known = _registry()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3) or ["chain_sum", "products"]
            raise TaskError(f"reasoning-gym has no data set {name!r}; did you mean {' or '.join(close)}?")
    if len(set(names)) < len(names):
        raise TaskError(f"reasoning-gym/{dataset} names a data set twice; name each once")
    own = {key: options.pop(key, default) for key, default in _OWN.items()}
    for key, value in own.items():
        if type(value) is not int or value < 0:
            raise TaskError(
                f"task 'reasoning-gym/{dataset}': {key} must be a whole number of at least 0, got {value!r}"
            )
    configs = _configs(names, options)
    for name, config in configs.items():
        _check_config(name, config, known[name])
    return ReasoningGym(configs, **own)


class ReasoningGym(Task):
    """Questions of one or several reasoning-gym data sets, in turn, each question once.

    Where every answer of a data set is an integer, the first number of a reply is its answer. Elsewhere the whole
    reply is scored by the data set's own `score_answer`, and only a full score of 1 counts: no partial reward.
    A small data set gives fewer questions than asked for, namely all it has.

    A real sample (chain_sum, max_terms=2, max_digits=1):

        text         State the final answer to the following arithmetic problem: 3 + 4 =
        instruction  Answer with only the number.
        prefix       The final answer is
        answer       7
    """

    version = 2
    changes: ClassVar = {
        1: "First version.",
        2: "Other splits: what version 1 held out is never a test question.",
    }
    source = "reasoning-gym (Apache 2.0), generated"

    def __init__(
        self, configs: dict[str, Settings], train_size: int, validation_size: int, test_size: int, seed: int
    ) -> None:
        """`configs`: data set → its options, as `build` has checked them."""
        self.name = f"reasoning-gym/{'+'.join(configs)}"
        self.configs = configs
        self.sizes: dict[Split, int] = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        self.seed = seed
        self._datasets: dict[str, Any] = {}
        self._entries: dict[str, tuple[str, Entry]] = {}  # question id → data set and record
        self._integer: dict[str, bool] = {}  # data set → whether all its answers are integers
        self._splits: dict[Split, list[Question]] = {}

    @property
    def max_answer_tokens(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """16 for numbers, else ample for the longest answer (a token is at least one byte)."""
        self._draw()
        longest = max(
            (len(e["answer"].encode()) for name, e in self._entries.values() if not self._integer[name]), default=0
        )
        return min(1024, max(16, longest + 8))

    def questions(self, split: Split) -> list[Question]:
        check_split(self.name, split)
        self._draw()
        return self._splits[split]

    def grade(self, question: Question, text: str) -> Grade:
        """1 for the right number, or for a full score; what a scorer cannot read, or may not evaluate, scores 0."""
        self._draw()
        reply = parsing.without_prefix(text, question.answer_prefix)
        name, entry = self._entries.get(question.id, ("", {}))
        if not entry:
            raise TaskError(f"question {question.id!r} is not one of {self.name}; grade it with the task it came from")
        if self._integer[name]:
            said = parsing.number(reply)
            return Grade(float(said is not None and said == parsing.canonical(question.answer)), said)
        said = reply.strip()
        if said == entry["answer"].strip():
            return Grade(1.0, said)
        if not said or not may_score(self._datasets[name], said):
            return Grade(0.0, None)
        try:
            score = float(self._datasets[name].score_answer(said, entry))
        except Exception:  # a scorer that trips over an odd reply
            return Grade(0.0, None)
        return Grade(float(score >= 1.0), said)

    def _draw(self) -> None:
        """Generates until every split is full or the data sets have nothing new."""
        if self._splits:
            return
        drawn: dict[Split, list[tuple[str, Entry]]] = {split: [] for split in SPLITS}
        seen: set[str] = set()
        streams = [self._stream(name, seen) for name in self.configs]
        for batch in zip_longest(*streams):
            for name, item in zip(self.configs, batch, strict=True):
                if item is not None and len(drawn[where := split_of(item["question"])]) < self.sizes[where]:
                    drawn[where].append((name, item))
            if all(len(drawn[split]) >= self.sizes[split] for split in SPLITS):
                break
        every = [pair for split in SPLITS for pair in drawn[split]]
        self._integer = {n: all(_INTEGER.fullmatch(e["answer"]) for m, e in every if m == n) for n in self.configs}
        self._splits = {split: [self._question(name, entry) for name, entry in drawn[split]] for split in SPLITS}

    def _stream(self, name: str, seen: set[str]) -> Iterator[Entry]:
        """New questions of one data set, without end unless it is exhausted; adds what it yields to `seen`."""
        fruitless = 0  # questions in a row that were not new
        for entry in self._generate(name):
            if not isinstance(entry["answer"], str):
                raise TaskError(f"reasoning-gym's {name} gives no answer to compare with; choose another data set")
            key = normalise(entry["question"])
            fruitless += 1
            if key not in seen:
                seen.add(key)
                fruitless = 0
                yield entry
            if fruitless == _PATIENCE:
                return

    def _generate(self, name: str) -> Iterator[Entry]:
        """What the data set makes, one by one and without end, repetitions included."""
        gym: Any = importlib.import_module("reasoning_gym")
        start = int(digest(f"{self.seed}:{name}")[:7], 16)
        while True:
            try:
                source = gym.create_dataset(name, **self.configs[name], size=_CHUNK, seed=start)
                self._datasets.setdefault(name, source)
                for i in range(_CHUNK):
                    yield source[i]
            except Exception as error:
                raise TaskError(
                    f"reasoning-gym's {name} cannot generate with options {self.configs[name]} "
                    f"({type(error).__name__}: {str(error)[:200]}); change the options"
                ) from error
            start += _CHUNK

    def _question(self, name: str, entry: Entry) -> Question:
        integer = self._integer[name]
        id = f"{name}-{digest(entry['question'])[:16]}"
        self._entries[id] = (name, entry)
        return Question(
            id=id,
            text=entry["question"].strip(),
            answer=entry["answer"],
            instruction="Answer with only the number." if integer else "Give only the answer, in the form asked for.",
            answer_prefix="The final answer is" if integer else "",
            metadata={"dataset": name},
        )


def split_of(question: str) -> Split:
    """The split a question belongs to, by its normalised text alone.

    About 44 % are for training, 21 % for validation and 35 % for test. Some questions that version 1 held out were
    looked at while prompts were written; what it held out is never a test question of version 2.
    """
    key = normalise(question)
    before, now = (int(digest(salt + key)[:8], 16) % 100 for salt in ("", "2:"))
    if before >= _HELD_OUT_BEFORE:
        return "train" if now < 60 else "validation"
    return "train" if now < 35 else "validation" if now < 46 else "test"


# -- a reply is untrusted, and some scorers evaluate it -------------------------------------------------------

_FUNCTIONS = set("sin cos tan asin acos atan sinh cosh tanh exp log ln sqrt Abs pi".split())
_FORMULA = re.compile(r"[0-9A-Za-z+\-*/^(). \n]{1,500}")
_HEAVY = re.compile(r"\.[A-Za-z]|[0-9][eEjJ][0-9+-]|[0-9]{13}")
_POWER = re.compile(r"\*\*|\^")
_EXPONENT = (
    r"(?:\*\*|\^) ?(?:-?[0-9]{1,2}(?![0-9.])|[A-Za-z]|\( ?-?[0-9]{1,2} ?(?:/ ?[0-9]{1,2} ?)?\))(?! ?(?:\*\*|\^))"
)
_LISTING = re.compile(r"(?!.*(?:\bfor\b|\blambda\b|\.[A-Za-z]|__))[^()*={}:%&|<>~@^/+\\]{1,5000}", re.DOTALL)
_HUGE_NUMBER = re.compile(r"[0-9.]_?[eE][-+]?[0-9_]{4}")


def may_score(scorer: Any, reply: str) -> bool:
    """Whether a reply may be given to a data set's `score_answer`.

    Several of them pass the reply to `eval`, or to sympy's `parse_expr`, which evaluates Python as well. They get
    lists without calls, operators and loops, and formulas of plain numbers, single letters and known functions,
    with small exponents, so that no reply can run code or keep the machine busy.
    """
    if len(reply) > 20_000 or _HUGE_NUMBER.search(reply):
        return False
    code = _scorer_code(scorer.__class__)
    if "parse_expr(" in code:
        return _plain_formula(reply)
    return "eval(" not in code or bool(_LISTING.fullmatch(reply))


def _plain_formula(reply: str) -> bool:
    powers = len(_POWER.findall(reply))
    return (
        bool(_FORMULA.fullmatch(reply))
        and not _HEAVY.search(reply)
        and set(re.findall(r"[A-Za-z]{2,}", reply)) <= _FUNCTIONS
        and powers == len(re.findall(_EXPONENT, reply))
        and len(re.findall(r"\) ?(?:\*\*|\^)", reply)) <= 2
    )


@lru_cache
def _scorer_code(kind: Any) -> str:
    return inspect.getsource(kind.score_answer)


# -- options --------------------------------------------------------------------------------------------------


def _registry() -> dict[str, Any]:
    """Data set → its class of options; raises TaskError without the package."""
    try:
        importlib.import_module("reasoning_gym")  # registers them
        factory: Any = importlib.import_module("reasoning_gym.factory")
    except ImportError as error:
        raise TaskError(f"reasoning-gym tasks need that package ({error}); run `pip install reasoning-gym`") from error
    return {name: config for name, (_, config) in factory.DATASETS.items() if name != "composite"}


def _configs(names: list[str], options: dict[str, Any]) -> dict[str, Settings]:
    """Data set → options, from those given to `build`."""
    if len(names) == 1:
        return {names[0]: options}
    for key, value in options.items():
        if key not in names:
            raise TaskError(
                f"task 'reasoning-gym/{'+'.join(names)}' has no option {key!r}; valid options: "
                f"{', '.join([*_OWN, *names])}, the latter with a table of that data set's own options each"
            )
        if not isinstance(value, dict):
            raise TaskError(f"option {key!r} must be a table of that data set's options, got {value!r}")
    return {name: dict(options.get(name, {})) for name in names}


def _check_config(name: str, config: Settings, kind: Any) -> None:
    valid = [field.name for field in fields(kind) if field.name not in ("size", "seed")]
    for option in config:
        if option not in valid:
            raise TaskError(
                f"reasoning-gym's {name} has no option {option!r} here; valid options: {', '.join([*_OWN, *valid])}"
            )
    try:
        getattr(kind(**config), "validate", lambda: None)()
    except (AssertionError, TypeError, ValueError) as error:
        raise TaskError(f"reasoning-gym's {name} rejects the options {config} ({error}); change them") from error
