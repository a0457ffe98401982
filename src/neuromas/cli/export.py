"""`neuromas export`: a run as a folder to share, on disk or on the Hugging Face hub."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from neuromas.errors import ConfigError
from neuromas.markup import say


def main(
    run: Annotated[Path, tyro.conf.Positional],
    out: Path,
    checkpoint: Literal["best", "last"] = "best",
    base_model: str | None = None,
    push: str | None = None,
    private: bool = True,
    dry_run: bool = False,
) -> None:
    """Write adapters as PEFT and vLLM load them, the rest that the network needs, and a model card.

    Args:
        run: A run folder.
        out: The new folder; `neuromas ask`, `eval`, `serve` and `inspect` take it like a run, on any machine.
        checkpoint: State of the run: best on validation, or last.
        base_model: Base that the adapters name: a hub id or a folder; by default the backbone's name.
        push: Upload to this repository of the hub ("owner/name") as well.
        private: Make a new repository private.
        dry_run: With --push: list what would be uploaded, and upload nothing.
    """
    from neuromas.run import export

    if dry_run and push is None:
        raise ConfigError("--dry-run lists what --push OWNER/NAME would upload; give that too, or leave it out")
    base = export.export(run, out, checkpoint, base_model)
    files = export.contents(out)
    size = sum(size for _, size in files) / 1e6
    say(f"{out}: {len(files)} files, {size:.1f} MB; the card is {out / export.CARD}")
    if base.local:
        say(
            f"the base model {base.name} is a folder here, which nobody else has: with --base-model OWNER/NAME others "
            "get it from the hub; without, they say where theirs lies (--backbone FOLDER)"
        )
    if push is None:
        return
    if dry_run:
        say(f"would be uploaded to {push} ({'private' if private else 'public'} if it is made):")
        for name, size in files:
            say(f"  {size:>12,}  {name}")
        return
    say(f"uploaded: {export.push(out, push, private)}")
