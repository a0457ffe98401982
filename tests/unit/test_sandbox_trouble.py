"""Trouble of the machine is never a wrong answer: programs are graded alike in every surrounding, or not at all."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from neuromas.compare import work
from neuromas.errors import TaskError
from neuromas.tasks import sandbox
from neuromas.tasks.jail import checker, isolation
from neuromas.tasks.sandbox import ResourceLimits, Submission, Verdict, run, run_many

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox is Linux only")
TEST = "assert f(1) == 1"

# A right program that does what programs do, and a wrong one, graded in a process of its own.
GRADER = """
import sys
from neuromas.errors import TaskError
from neuromas.tasks import sandbox
usual = "import fractions, heapq, threading; threading.Thread(target=print).start();"
try:
    sandbox.active_layers()
    jobs = [sandbox.Submission(f"{usual} f = lambda x: {x}", "assert f(1) == 1", ("f",)) for x in (1, 2)]
    print([verdict.passed for verdict in sandbox.run_many(jobs)])
except TaskError as error:
    print("refused:", error)
"""


def graded(prelude: str) -> str:
    """What GRADER says after a shell has done `prelude`."""
    command = f'{prelude}; exec "$0" -c "$1"'
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, GRADER], capture_output=True, text=True, env=environment
    )
    assert done.stderr == "", done.stderr
    return done.stdout.strip()


SURROUNDINGS = ["umask 077", "umask 777", "trap '' CHLD INT ALRM XCPU", "ulimit -n 40"]
MORE = ["umask 000", "umask 027", "ulimit -v 3000000", "ulimit -s 100000", "exec <&-", "unset HOME; export TMPDIR=/no"]


@pytest.mark.parametrize("how", [*SURROUNDINGS, *(pytest.param(how, marks=pytest.mark.slow) for how in MORE)])
def test_programs_are_graded_alike_in_every_surrounding(how: str) -> None:
    assert graded(how) == "[True, False]"


@pytest.mark.parametrize(
    "how, lacking",
    [
        ("ulimit -n 20", "RLIMIT_NOFILE is at most 20"),
        pytest.param("ulimit -v 900000", "RLIMIT_AS is at most 921600000", marks=pytest.mark.slow),
        pytest.param("ulimit -t 5", "RLIMIT_CPU is at most 5", marks=pytest.mark.slow),
        pytest.param("ulimit -f 100", "RLIMIT_FSIZE is at most", marks=pytest.mark.slow),
    ],
)
def test_a_surrounding_without_room_for_a_program_is_refused_with_its_remedy(how: str, lacking: str) -> None:
    said = graded(how)
    if said != "[True, False]":  # Who may raise limits does.
        assert lacking in said
        assert "raise it (ulimit)" in said


def test_waiting_for_a_processor_does_not_count() -> None:
    busy = "import time\ndef f(x):\n    end = time.process_time() + 0.4\n    while time.process_time() < end: pass\n"
    jobs = [Submission(f"{busy}    return 1  # {i}", TEST, ("f",)) for i in range(6)]
    processors, start = os.sched_getaffinity(0), time.monotonic()
    os.sched_setaffinity(0, {min(processors)})
    try:
        verdicts = run_many(jobs, ResourceLimits(cpu_seconds=1, wall_seconds=1.0), workers=6)
    finally:
        os.sched_setaffinity(0, processors)
    assert [verdict.why for verdict in verdicts] == [""] * 6
    assert time.monotonic() - start > 6 * 0.4  # They did wait for each other.


@pytest.mark.parametrize("outcome", ["late", "killed", "starved", "nothing"])
def test_what_the_machine_may_have_caused_is_run_again(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    bad = {"outcome": outcome, "why": "trouble", "layers": []}
    reports = [bad, {"outcome": "passed", "why": "", "layers": []}]
    monkeypatch.setattr(sandbox, "_supervise", lambda *_: reports.pop(0))
    assert run_many([Submission("", "", ())])[0].passed
    reports += [bad, bad]
    if outcome in ("late", "killed"):  # A program may sleep or kill itself, and does so again.
        assert not run(Submission("", "", ())).passed
    else:
        with pytest.raises(TaskError, match="no verdict on a program, twice: trouble; see that"):
            run(Submission("", "", ()))


def test_a_worker_of_many_runs_as_many_programs_as_it_has_threads(monkeypatch, tmp_path: Path) -> None:
    under_way, most = 0, 0

    def first(*_: object) -> Verdict:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        under_way -= 1
        return Verdict(True, "", ())

    monkeypatch.setattr(sandbox, "_first", first)
    monkeypatch.setattr(sandbox, "at_once", None)
    monkeypatch.setattr(work, "_held", [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16))
    jobs = [Submission(f"f = lambda x: {n}", TEST, ("f",)) for n in range(40)]
    run_many(jobs)
    assert most > 2
    threads, most = torch.get_num_threads(), 0
    work.enlist(tmp_path, 2)
    torch.set_num_threads(threads)
    run_many(jobs)
    assert most == 2


def test_a_sandbox_that_cannot_be_started_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(TaskError, match="no verdict.*No such file"):
        run(Submission("", "", ()))


def test_a_sandbox_that_cannot_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "heapq", None)
    with pytest.raises(isolation.Unsealed, match=r"fails at what every program may do \(ModuleNotFoundError"):
        isolation._prove()  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("without", [(), ("namespaces",)])
def test_installed_packages_are_out_of_sight(without: tuple[str, ...]) -> None:
    found = isolation._packages(isolation._libraries())  # pyright: ignore[reportPrivateUsage]
    packages = next(folder for folder in found if Path(folder).parent == Path(os.__file__).parent)
    file = str(next(place for place in Path(packages).rglob("*") if place.is_file()))
    program = f"def f(x):\n    import heapq, json, _heapq\n    return open({file!r}).read(1)\n"
    verdict = run(Submission(program, "f(1)", ("f",)), without=without)
    assert verdict.why.startswith(("tests: FileNotFoundError", "tests: PermissionError")), verdict.why


@pytest.mark.parametrize("kind", ["StopIteration", "StopAsyncIteration"])
def test_a_call_does_not_end_the_loop_of_a_test(kind: str) -> None:
    program = f"def f(x=0): raise {kind}(5)"
    verdict = run(Submission(program, "for value in iter(f, 0): assert value == 1", ("f",)))
    assert verdict.why == f"tests: ProgramError: {kind}: 5"


@pytest.mark.parametrize("kind", [ValueError, KeyError, UnicodeDecodeError, UnicodeError, ExceptionGroup, OSError])
def test_exceptions_arrive_as_what_they_are_or_extend(kind: type[Exception]) -> None:
    error = checker._error(kind.__name__, "words")  # pyright: ignore[reportPrivateUsage]
    assert type(error) in kind.__mro__[:3] and "words" in str(error)


def test_no_test_takes_the_end_of_the_program_for_an_exception_of_it() -> None:
    verdict = run(Submission("import os\ndef f(x): os._exit(0)", "try: f(1)\nexcept Exception: pass", ("f",)))
    assert verdict.why == "tests: the program ended before its tests did"
