"""`neuromas completion`: completion of commands, options and their values in a shell."""

import contextlib
from typing import Annotated, Literal

import tyro


def main(shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]) -> None:
    """Print a script that completes `neuromas` in a shell.

    For bash: `neuromas completion bash > ~/.local/share/bash-completion/completions/neuromas`.

    Args:
        shell: The shell.
    """
    from neuromas.cli import COMMANDS, described, function_of

    functions = {name: described(function_of(name)) for name in COMMANDS}
    options = ["--tyro-print-completion", shell]
    with contextlib.suppress(SystemExit):  # so that output that nobody reads ends as everywhere
        tyro.extras.subcommand_cli_from_dict(
            functions, prog="neuromas", args=options, config=(tyro.conf.AvoidSubcommands, tyro.conf.DisallowNone)
        )
