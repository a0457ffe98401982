"""The command line: dispatches a command; user errors print without a traceback.

Every command is a module here with a function `main`, or a function of `lists`, whose typed parameters are its options
and whose docstring is its help. A module is imported when its command runs, so that `neuromas --help` needs nothing
heavy.
"""

import difflib
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TextIO, cast, get_args, get_type_hints

from neuromas.errors import ConfigError, NeuromasError
from neuromas.markup import visible

COMMANDS = {  # name → one line of help
    "demo": "the main job on the embedded backbone: train, compare with controls, show",
    "init": "look at a table, and write a task and a recipe for it",
    "train": "train a network from a recipe or from options",
    "grow": "a larger network out of a trained one",
    "eval": "measure a run, or a baseline, on a task",
    "compare": "several systems, tasks and seeds: table, paired tests, report",
    "inspect": "what each node of a run says, and what it is worth",
    "ask": "ask a run a question and see the whole trace, or all questions of a file",
    "serve": "a run behind OpenAI's API, and as a page",
    "watch": "the page of a run that is still training",
    "export": "a run as a folder to share: PEFT adapters and a model card, on disk or on the hub",
    "harness": "a run on the tasks of lm-evaluation-harness",
    "tasks": "what can be trained and measured on",
    "baselines": "what a network can be compared with",
    "backbones": "which language models can be used",
    "plan": "memory and time of a run before it starts, and what to change if it does not fit",
    "draw": "draw a topology as text, Mermaid, SVG or PNG",
    "schema": "the JSON schema of recipes or task files, for editors",
    "completion": "completion of all this in bash, zsh or fish",
    "env": "versions, devices and folders, for a report of a fault",
}
_advice: Callable[[], str] = str  # on how to go on with the command under way, for a person who interrupts it
LISTS = ("tasks", "baselines", "backbones", "schema")  # commands that share the module `lists`


def goes_on(advice: Callable[[], str] = lambda: "; the same command goes on where it stopped") -> None:
    """Called by a command, as soon as this is true of it: what a person is told who interrupts it."""
    global _advice
    _advice = advice


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `neuromas`. Exits 0 when all went well, 2 after a mistake one can mend, 130 after Ctrl-C.

    Output that cannot be written is dropped, so that work goes on, such as a training of hours behind `| head`; the
    command then ends with 1 where its reader has gone, and else with 2 and the reason.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows what it cannot spell in its own way
    output = _Output(sys.stdout)
    # no stream: it was closed from the start
    redirected = redirect_stdout(cast("TextIO", output)) if sys.stdout else nullcontext()
    with redirected, warnings.catch_warnings():
        warnings.showwarning = _show_warning
        _dispatch(list(sys.argv[1:] if argv is None else argv))
        print(end="", flush=True)
    if isinstance(output.trouble, BrokenPipeError):
        sys.exit(1)
    if output.trouble is not None:
        _fail(f"the output could not be written ({output.trouble}), which changes no result; give it another place")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning in one line, without the place in the code that it comes from."""
    print(f"warning: {visible(' '.join(str(message).split()))}", file=sys.stderr)


class _Output:
    """Standard output, which is dropped from the first text on that cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.trouble: OSError | None = None

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.trouble = self.trouble or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in {"-h", "--help", "help"}:
        print(_help())
        return
    if args[0] in {"-V", "--version"}:
        print(f"neuromas {_version()}")
        return
    command, *rest = args
    if odd := next((text for text in args if "\0" in text), None):
        _fail(f"{odd!r} holds a null character, which no path and no option can; leave it out")
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the commands are {', '.join(COMMANDS)}"
        _fail(f"{command!r} is no command of neuromas; {hint}")
    goes_on(str)  # an earlier command of this process said what was true of it
    try:
        with _interruptible():
            _run(command, rest)
    except NeuromasError as error:
        _fail(str(error))
    except (OSError, UnicodeError) as error:
        _fail(f"{error}; check the path, its rights, and the room on the disk")
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # not imported for commands that need no tensors
            raise
        _fail(f"weights could not be read or written ({error}); check the file, and the room on the disk")
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(130)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the command in order, and a second one at once; what is on disk is whole in any case."""

    def first(*_: Any) -> None:
        signal.signal(signal.SIGINT, second)
        raise KeyboardInterrupt

    def second(*_: Any) -> None:
        _say_interrupted()
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or somebody else's
        yield
        return
    try:
        signal.signal(signal.SIGINT, first)
        yield
    except Exception as error:
        if signal.getsignal(signal.SIGINT) is second:  # a library made another error of the interrupt
            raise KeyboardInterrupt from error
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is first:  # after the first one the second stays possible to the very end
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _say_interrupted() -> None:
    print(f"\ninterrupted{_advice()}", file=sys.stderr, flush=True)


def _run(command: str, args: list[str]) -> None:
    import tyro

    config = (tyro.conf.AvoidSubcommands, tyro.conf.DisallowNone)
    function = function_of(command)
    _refuse_empty_paths(function, args)
    tyro.cli(_checked(described(function)), prog=f"neuromas {command}", args=args, config=config)


def _refuse_empty_paths(function: Callable[..., None], args: list[str]) -> None:
    """Raise `ConfigError` for an option such as --out "", which would be read as the present folder."""
    paths = {f"--{name}" for name, kind in get_type_hints(function).items() if Path in (kind, *get_args(kind))}
    for option, value in (*pairwise(args), *(arg.split("=", 1) for arg in args if "=" in arg)):
        if option in paths and not value.strip():
            raise ConfigError(f"{option} is empty; name a file or folder, or . for the present folder")


def function_of(command: str) -> Callable[..., None]:
    """The function behind a command; imports its module."""
    if command in LISTS:
        return getattr(importlib.import_module("neuromas.cli.lists"), command)
    return importlib.import_module(f"neuromas.cli.{command}").main


_described: set[Any] = set()


def described(function: Callable[..., None]) -> Callable[..., None]:
    """The command, so marked that its help says nothing of a default where there is none."""
    import tyro

    shown = tyro.conf.arg(help_behavior_hint=lambda value: "" if value in ("None", "") else f"(default: {value})")
    groups = [base for kind in get_type_hints(function).values() for base in getattr(kind, "__mro__", ())]
    for owner in (function, *(group for group in groups if group.__module__.startswith("neuromas."))):
        if owner in _described:  # another command of this process
            continue
        _described.add(owner)
        owner.__annotations__ = {name: Annotated[kind, shown] for name, kind in owner.__annotations__.items()}
    return function


def _checked(function: Callable[..., None]) -> Callable[..., None]:
    """The command, with a check of its numbers' ranges, and that its results can be written. Raises `ConfigError`."""
    from pydantic import TypeAdapter, ValidationError

    from neuromas.files import check_target

    kinds = get_type_hints(function, include_extras=True)

    @wraps(function)
    def run(**options: Any) -> None:
        for name, value in options.items():
            if name in ("json", "answers") and value is not None:
                check_target(value)
            if isinstance(value, int | float):
                try:
                    TypeAdapter(kinds[name]).validate_python(value)
                except ValidationError as error:
                    said = error.errors()[0]["msg"].lower()
                    raise ConfigError(f"--{name.replace('_', '-')} is {value}: {said}") from error
        function(**options)

    return run


def _help() -> str:
    lines = ["usage: neuromas COMMAND [options]", "", "A neural network whose neurons are language-model agents.", ""]
    lines += [f"  {name:<11} {text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", "Run neuromas COMMAND --help for its options, neuromas --version for the version."])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("neuromas")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0 (not installed)"


def _fail(message: str) -> None:
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}error: {visible(' '.join(message.split()))}{plain}", file=sys.stderr)
    sys.exit(2)
