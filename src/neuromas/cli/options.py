"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from neuromas.config import Section


class SystemConfig(Section):
    """The state of a run that answers, or what a baseline is made of."""

    checkpoint: Literal["best", "last"] = Field(
        default="best", description="Which state of the run: best on validation, or last."
    )
    recipe: Path | None = Field(default=None, description="Where a baseline takes task, backbone and sampling from.")
    backbone: str | None = Field(default=None, description="The model of a baseline.")
    options: tuple[str, ...] = Field(default=(), description="A baseline's own, as name=value.")
    state: Path | None = Field(
        default=None, description="What a fitted baseline learned; `neuromas eval` fits it and writes a missing file."
    )
    threads: int | None = Field(default=None, description="CPU threads; by default all cores.")


SystemOptions = Annotated[SystemConfig, tyro.conf.arg(name="")]
