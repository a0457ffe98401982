"""Generated programs cannot get out, cannot take the evaluator down, and cannot have themselves graded right."""

import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import attacks
from neuromas.errors import TaskError
from neuromas.tasks import sandbox
from neuromas.tasks.jail import isolation, supervisor, wire
from neuromas.tasks.sandbox import ResourceLimits, Submission, Verdict, run, run_many

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox is Linux only")
QUICK = ResourceLimits(cpu_seconds=1, wall_seconds=3.0 + os.getpid() / 1e7)  # its processes show this number
TAKE_THEIR_TIME = {"half an answer", "sleep", "stop", "alarm", "error flood", "a huge power", "a long list"}
TAKE_THEIR_TIME |= {"deep recursion", "recursion in C", "a hanging expression", "memory bomb of lists"}


def graded(programs: dict[str, str], limits: ResourceLimits = QUICK, without: Sequence[str] = ()) -> dict[str, Verdict]:
    if not without:
        return dict(zip(programs, run_many([attacks.job(p) for p in programs.values()], limits), strict=True))
    return {name: run(attacks.job(program), limits, without) for name, program in programs.items()}


def check_sound() -> None:
    right, wrong = run_many([attacks.job(attacks.RIGHT), attacks.job(attacks.WRONG)])
    assert right.passed, right.why
    assert not wrong.passed and wrong.why == "tests: AssertionError: "


def leftovers() -> tuple[list[str], list[str]]:
    """Processes that came of jobs with the limits QUICK, and temporary folders."""
    alive: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(QUICK.wall_seconds).encode() in (process / "cmdline").read_bytes():
                alive.append(process.name)
        except OSError:
            continue
    return alive, [p.name for p in Path(tempfile.gettempdir()).glob("neuromas-sandbox-*")]


class Surroundings:
    """What the attacks are after, and whether it is as it was."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.canary = folder / "canary"
        self.canary.write_text("a bird")
        self.canary.chmod(0o644)
        self.before = self.canary.stat()
        monkeypatch.setenv("NEUROMAS_CANARY", "secret-egg")
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.01)
        self.names = {
            "HOME": Path.home(), "CANARY": self.canary, "SOURCE": attacks.__file__, "SECRET": "secret-egg",
            "PID": os.getpid(), "PORT": self.listener.getsockname()[1],
        }  # fmt: skip

    def check(self) -> None:
        now = self.canary.stat()
        assert self.canary.read_text() == "a bird"
        assert (now.st_mode, now.st_mtime_ns, now.st_nlink) == (self.before.st_mode, self.before.st_mtime_ns, 1)
        assert [p.name for p in self.canary.parent.iterdir()] == ["canary"]
        with pytest.raises(TimeoutError):
            self.listener.accept()
        assert not Path("/etc/neuromas-attack").exists() and not Path("/usr/lib/neuromas-attack").exists()
        assert leftovers() == ([], [])


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surroundings]:
    found = Surroundings(tmp_path, monkeypatch)
    yield found
    found.listener.close()


# -- attacks --------------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    "without", [(), pytest.param(("namespaces",), marks=pytest.mark.slow)], ids=["all layers", "no namespaces"]
)
def test_nothing_gets_out(surroundings: Surroundings, without: tuple[str, ...]) -> None:
    programs = attacks.breakouts(**surroundings.names)
    wanted = {name: programs[name] for name in attacks.BREAKOUTS if name not in TAKE_THEIR_TIME}
    assert [name for name, verdict in graded(wanted, without=without).items() if verdict.passed] == []
    surroundings.check()
    check_sound()


@linux
def test_nothing_forges_its_grade_or_takes_the_evaluator_down(surroundings: Surroundings) -> None:
    programs = {n: p for n, p in attacks.forgeries().items() if n not in TAKE_THEIR_TIME}
    assert [name for name, verdict in graded(programs).items() if verdict.passed] == []
    surroundings.check()
    check_sound()


@linux
def test_the_attacks_would_pass_if_they_got_what_they_want() -> None:
    """Else a typing error in an attack would look like a defence."""
    harmless = {
        "read": f"assert open('{os.__file__}').read()", "write": "open('f', 'w').write('x')",
        "thread": "import threading; threading.Thread(target=print).start()", "list": "import os; os.listdir('.')",
        "memory": "x = bytearray(1 << 26)", "self": "import os; os.kill(os.getpid(), 0)",
        "search": "import gc; assert [o for o in gc.get_objects() if isinstance(o, dict) and 'def dou' in str(o)]",
        "temporary": "import tempfile; open(tempfile.mkstemp()[1]).close()",
    }  # fmt: skip
    for name, code in harmless.items():
        verdict = run(attacks.job(f"{code}\n{attacks.RIGHT}"))
        assert verdict.passed, (name, verdict.why)


@pytest.mark.slow
@linux
def test_leftovers_would_be_found() -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, attacks.job("import time; time.sleep(99)"), QUICK)
        deadline = time.monotonic() + 10
        while len(leftovers()[0]) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(leftovers()[0]) >= 3  # supervisor, checker, program
        assert not running.result().passed
    assert leftovers()[0] == []


@linux
def test_the_evaluator_keeps_no_descriptor_and_no_zombie(surroundings: Surroundings) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())), children()
    graded({"loop": "while True: pass", "exit": "import os; os._exit(0)", "ok": attacks.RIGHT})
    assert (len(list(Path("/proc/self/fd").iterdir())), children()) == before


def children() -> set[str]:
    """The processes that this one has started, those that have ended and were not waited for included."""
    parent = lambda stat: stat.read_text().rpartition(")")[2].split()[1]
    found = set[str]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if parent(stat) == str(os.getpid()):
                found.add(stat.parent.name)
    return found


@linux
def test_a_program_sees_two_descriptors_of_ours_no_argument_and_a_bare_environment() -> None:
    program = (
        "import os, sys\n"
        "def look():\n"
        "    fds = [fd for fd in range(1000) if ok(fd)]\n"
        "    return fds, sorted(os.environ), os.getcwd(), os.listdir('.'), os.getpid(), os.getuid() > 0\n"
        "def ok(fd):\n"
        "    try: return bool(os.fstat(fd))\n"
        "    except OSError: return False\n"
    )
    tests = (
        "fds, names, folder, files, pid, other = look()\n"
        "assert fds == [0, 1, 2, 3, 4]\n"
        "assert names == ['LC_ALL', 'PYTHONHASHSEED'], names\n"
        "assert (folder, files) == ('/tmp', []), (folder, files)\n"
        "assert pid == 1 and other\n"
    )
    if not {"root", "processes", "uid"} <= set(sandbox.active_layers()):
        pytest.skip("this machine has no namespaces for the sandbox")
    verdict = run(Submission(program, tests, ("look",)))
    assert verdict.passed, verdict.why


@linux
@pytest.mark.slow
def test_every_attack_in_every_place_fails_with_and_without_namespaces(surroundings: Surroundings) -> None:
    everything = attacks.breakouts(**surroundings.names) | attacks.forgeries()
    assert len(everything) > 250
    for without in ((), ("namespaces",), ("landlock",)):
        spared = {n for n in everything if n.startswith("read the home folder") and "landlock" in without}
        found = graded({n: p for n, p in everything.items() if n not in spared}, without=without)
        assert [name for name, verdict in found.items() if verdict.passed] == [], without
        surroundings.check()
        check_sound()


# -- verdicts -------------------------------------------------------------------------------------------------


@linux
def test_plain_data_of_every_kind_arrives_as_it_is() -> None:
    program = "def same(x, *more, **named):\n    return (x, *more, *named.values()) if more or named else x\n"
    values = (
        "[None, True, 0, -1, 2**62, -2**63, 2**64, 10**30, 0.1, -0.0, float('inf'), 'é\\ud800', '', b'\\xff', [], [[]],"
        "(), (1,), {}, {1: 'a', (2, 3): {4}}, set(), {1, 2}, frozenset({1}), 1+2j, range(1, 9, 2), bytearray(b'a'),"
        "Fraction(1, 3), Decimal('1.10')]"
    )
    tests = (
        f"for value in {values}:\n"
        "    got = same(value)\n"
        "    assert got == value and type(got) is type(value) and repr(got) == repr(value), (got, value)\n"
        "assert same(float('nan')) != same(float('nan'))\n"
        "assert same(1, [2], k='3') == (1, [2], '3')\n"
    )
    verdict = run(
        Submission(program, tests, ("same",), "from fractions import Fraction\nfrom decimal import Decimal\n")
    )
    assert verdict.passed, verdict.why


@linux
def test_objects_of_the_program_can_be_made_used_and_passed_back() -> None:
    program = (
        "class Node:\n"
        "    def __init__(self, value): self.value, self.left = value, None\n"
        "def total(node): return node.value + (total(node.left) if node.left else 0)\n"
        "def count(n): yield from range(n)\n"
        "def same(a, b): return a is b\n"
        "class Bag:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, i): return i * 2\n"
    )
    tests = (
        "root = Node(5)\nroot.left = Node(2)\nroot.left.left = Node(1)\n"
        "assert total(root) == 8 and root.left.value == 2 and root.left.left.left is None\n"
        "assert list(count(3)) == [0, 1, 2] and sum(count(4)) == 6\n"
        "assert same(root, root) and not same(root, root.left)\n"
        "assert root == root and root != root.left and root != 5\n"
        "bag = Bag()\nassert len(bag) == 3 and bag[4] == 8 and bag\n"
    )
    verdict = run(Submission(program, tests, ("Node", "total", "count", "same", "Bag")))
    assert verdict.passed, verdict.why


@linux
@pytest.mark.parametrize(
    "program, tests, passed",
    [
        ("def f(x): raise ValueError('no')", "try: f(1)\nexcept ValueError as e: assert str(e) == 'no'", True),
        ("def f(x): raise OSError('no')", "try: f(1)\nexcept OSError: pass", True),
        ("class E(Exception): pass\ndef f(x): raise E", "try: f(1)\nexcept Exception: pass", True),
        ("def f(x): raise ValueError", "f(1)", False),
        ("def f(x): raise SystemExit(0)", "try: f(1)\nexcept Exception: raise", False),
        ("def f(x): return x", "assert f(lambda: 1)", False),
        ("def g(x): return x", "assert f(1) == 1", False),
        ("f = 3", "assert f == 3", False),  # a name of the program is never a value of its own choice
        ("from dataclasses import *\n@dataclass\nclass A:\n    x: int\nf = lambda x: A(x).x", "assert f(2) == 2", True),
        ("def f(x):\n    x.append(1)\n    return x", "y = []\nassert f(y) == [1] and y == []", True),
        ("import numpy\ndef f(x): return x", "assert f(1) == 1", False),
        ("def f(x): return x", "assert f(1) == 1\nexit(", False),
    ],
)  # fmt: skip
def test_verdicts(program: str, tests: str, passed: bool) -> None:
    verdict = run(Submission(program, tests, ("f",)))
    assert verdict.passed is passed, verdict.why


@linux
def test_limits_are_kept_and_the_machines_load_does_not_count_as_computing() -> None:
    start = time.monotonic()
    cases = ("while True: pass", ResourceLimits(1, 30.0)), ("import time; time.sleep(99)", ResourceLimits(1, 1.5))
    busy, asleep = (run(attacks.job(p), limits) for p, limits in cases)
    assert not busy.passed and busy.why == "program: the program ended before its tests did"
    assert not asleep.passed and "wall-clock" in asleep.why
    assert time.monotonic() - start < 31.5  # the first was stopped by its computing time
    assert run(attacks.job(f"x = bytearray(100 << 20)\n{attacks.RIGHT}"), ResourceLimits(memory_mb=512)).passed
    assert not run(attacks.job(f"x = bytearray(100 << 20)\n{attacks.RIGHT}"), ResourceLimits(memory_mb=96)).passed


@linux
def test_verdicts_come_in_the_order_of_the_jobs() -> None:
    programs = [attacks.RIGHT, attacks.WRONG, "import time; time.sleep(0.3)\n" + attacks.RIGHT, "x"] * 3
    assert [v.passed for v in run_many([attacks.job(p) for p in programs], workers=4)] == [True, False, True, False] * 3
    assert run_many([]) == []


@linux
def test_the_order_of_sets_is_the_same_in_every_run() -> None:
    program = "def order(): return list({str(i) for i in range(50)})"
    first = "a = order()\nassert a == order()\nimport hashlib\nassert hashlib.md5(str(a).encode()).hexdigest() == '%s'"
    job = lambda guess: Submission(program, first % guess, ("order",))
    probe = Submission(
        program, "raise ValueError(__import__('hashlib').md5(str(order()).encode()).hexdigest())", ("order",)
    )
    seen = {run(probe).why.split()[-1] for _ in range(2)}
    assert len(seen) == 1 and run(job(seen.pop())).passed


# -- what the platform offers ---------------------------------------------------------------------------------


@linux
def test_too_little_isolation_is_refused_before_the_program_runs() -> None:
    for without, named in ((["namespaces", "landlock"], "a file system"), (["syscalls"], "a filter of system calls")):
        with pytest.raises(TaskError, match=f"{named}.*use Linux 6.2"):
            run(attacks.job(attacks.RIGHT), without=without)


def test_the_minimum() -> None:
    assert supervisor.missing(["syscalls", "root"]) == supervisor.missing(["syscalls", "landlock"]) == ""
    lacking = supervisor.missing(["network", "processes", "uid"])
    assert lacking.startswith("a filter of system calls and a file system of its own cannot be had (active: network,")


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(TaskError, match="needs Linux, and this is darwin; run in a Linux container"):
        run(attacks.job(attacks.RIGHT))


def test_a_sandbox_that_cannot_start_is_told_before_anything_is_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sandbox, "_reported", lambda *_: b"")
    sandbox.active_layers.cache_clear()
    try:
        with pytest.raises(TaskError, match="gave no verdict on a program, twice: no verdict came back.*are left"):
            sandbox.active_layers()
    finally:
        sandbox.active_layers.cache_clear()


def test_a_program_of_absurd_length_is_not_run() -> None:
    assert "over the limit" in run(attacks.job("#" * (2 << 20))).why


@pytest.mark.parametrize("name, value", [("cpu_seconds", 0), ("memory_mb", -1), ("wall_seconds", 0.0)])
def test_limits_without_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(TaskError, match=f"{name} is {value}"):
        ResourceLimits(**{name: value})


# -- messages -------------------------------------------------------------------------------------------------


def test_random_messages_decode_or_raise_but_never_more() -> None:
    chance = random.Random(0)
    kinds = [*"iltdsfbcrqDhmz", ""]

    def grow(depth: int) -> Any:
        leaf = chance.choice([None, True, 1, -1.5, "x", "0x1", [], {}, "1/0", [1, 0], [[1, 2]], [[[], 1]]])
        if depth == 0 or chance.random() < 0.3:
            return leaf
        return {chance.choice(kinds): chance.choice([grow(depth - 1), [grow(depth - 1), grow(depth - 1)]])}

    for _ in range(3000):
        try:
            wire.decode(grow(4), lambda reference: reference)
        except (ValueError, TypeError, ArithmeticError, AttributeError):
            continue


def test_subclasses_arrive_as_what_they_extend() -> None:
    class Yes(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    class List(list[int]):
        def __eq__(self, other: object) -> bool:
            return True

    for value, plain in ((Yes(3), 3), (List([1]), [1]), ({Yes(1): List()}, {1: []})):
        got = wire.decode(wire.encode(value, lambda _: 0), lambda _: 0)
        assert type(got) is type(plain) and got == plain and (isinstance(plain, dict) or got != 9)


def test_libraries_that_are_shown_hold_python_and_no_home() -> None:
    shown = isolation._libraries()  # pyright: ignore[reportPrivateUsage]
    assert any(os.__file__.startswith(folder) for folder in shown)
    assert str(Path.home()) not in shown and "/" not in shown
