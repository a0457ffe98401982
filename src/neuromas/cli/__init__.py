"""The command line: finds the command, lets tyro read its arguments, tells mistakes without a traceback.

Every command is a module here with a function `main` whose typed parameters are its options; its docstring is its
help. Modules are imported when their command runs, so that `neuromas --help` needs nothing heavy.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

from neuromas.errors import NeuromasError

COMMANDS = {  # name → one line of help; the module has the same name
    "demo": "the main job on the embedded backbone: train, compare with controls, show",
    "train": "train a network from a recipe or from options",
    "grow": "a larger network out of a trained one",
    "eval": "measure a run, or a baseline, on a task",
    "compare": "several systems, tasks and seeds: table, paired tests, report",
    "inspect": "what each node of a run says, and what it is worth",
    "ask": "ask a run one question and see the whole trace",
    "serve": "a run behind OpenAI's API, and as a page",
    "watch": "the page of a run that is still training",
    "export": "a run as a folder to share: PEFT adapters and a model card, on disk or on the hub",
    "harness": "a run on the tasks of lm-evaluation-harness",
    "tasks": "what can be trained and measured on",
    "baselines": "what a network can be compared with",
    "backbones": "which language models can be used",
    "plan": "memory and time of a run before it starts, and what to change if it does not fit",
    "draw": "draw a topology as text, Mermaid, SVG or PNG",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `neuromas`. Exits 0 when all went well, 2 after a mistake one can mend, 130 after Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in {"-h", "--help", "help"}:
        print(_help())
        return
    if args[0] in {"-V", "--version"}:
        print(f"neuromas {_version()}")
        return
    command, *rest = args
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the commands are {', '.join(COMMANDS)}"
        _fail(f"{command!r} is no command of neuromas; {hint}")
    try:
        _run(command, rest)
    except NeuromasError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def _run(command: str, args: list[str]) -> None:
    import tyro

    module = importlib.import_module(f"neuromas.cli.{command}")
    tyro.cli(module.main, prog=f"neuromas {command}", args=args, config=(tyro.conf.AvoidSubcommands,))


def _help() -> str:
    lines = ["usage: neuromas COMMAND [options]", "", "A neural network whose neurons are language-model agents.", ""]
    lines += [f"  {name:<11} {text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", "neuromas COMMAND --help tells about the options; neuromas --version the version."])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("neuromas")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0 (not installed)"


def _fail(message: str) -> None:
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}error: {message}{plain}", file=sys.stderr)
    sys.exit(2)
