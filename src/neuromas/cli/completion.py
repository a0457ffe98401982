"""`neuromas completion`: completion of commands, options and their values in a shell."""

import contextlib
import io
from typing import Annotated, Literal

import tyro

_FILES = "__TYRO_COMPLETE_FILES__"  # the word at which tyro's scripts let the shell complete a path


def main(shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]) -> None:
    """Print a script that completes `neuromas` in a shell.

    For bash: `neuromas completion bash > ~/.local/share/bash-completion/completions/neuromas`.

    Args:
        shell: The shell.
    """
    from neuromas.cli import COMMANDS, described, function_of

    functions = {name: described(function_of(name)) for name in COMMANDS}
    options = ["--tyro-print-completion", shell]
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            functions, prog="neuromas", args=options, config=(tyro.conf.AvoidSubcommands, tyro.conf.DisallowNone)
        )
    print(_with_files(script.getvalue()))


def _with_files(script: str) -> str:
    """The script, which then completes a path where it knows nothing: tyro's has none for an argument without an
    option, such as RUN. In bash the shell itself does so, with a folder's slash and quotes."""
    script = script.replace("in completions:\n        print(", f"in completions or ['{_FILES}']:\n        print(")
    script = script.replace('COMPREPLY=($(compgen -f -- "$cur"))', "COMPREPLY=()")
    return script.replace("complete -F ", "complete -o default -F ")
