"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from neuromas.recipe import CommandOptions

Positive = Annotated[int, Field(ge=1)]  # Numbers of options in their ranges, which `cli._checked` keeps.
Natural = Annotated[int, Field(ge=0)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SystemConfig(CommandOptions):
    """The state of a run that answers, or the parts of a baseline."""

    checkpoint: Literal["best", "last"] = Field(
        default="best", description="State of the run: best on validation, or last."
    )
    recipe: Path | None = Field(default=None, description="Recipe whose task, backbone and sampling a baseline uses.")
    backbone: str | None = Field(
        default=None, description="Model that a baseline uses, or the run's own where it has another name here."
    )
    task: str | None = Field(
        default=None, description="Task in place of the run's or recipe's own: a name, a TOML file, or a table."
    )
    options: tuple[str, ...] = Field(default=(), description="Options of a baseline, as name=value.")
    state: Path | None = Field(
        default=None, description="What a fitted baseline learned; `neuromas eval` fits it and writes a missing file."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; by default all cores.")


SystemOptions = Annotated[SystemConfig, tyro.conf.arg(name="")]


def use_threads(threads: int | None) -> None:
    """Let torch compute with so many threads; None: with those that it chooses."""
    if threads:
        import torch

        torch.set_num_threads(threads)
