"""The answers of /run, /run/metrics and /run/samples, apart from the records of `neuromas.results`.

Files of a run are not trusted: the page is shown only what has the form of these records.
"""

from typing import Literal

from pydantic import BaseModel, Field

from neuromas.results import ComparisonRow, GrowthRecord, Interval, MessageRecord, Result, StepMetrics


class ShapeNode(BaseModel):
    id: str
    layer: int = Field(description="From 1.")
    upstream: list[str]
    sees_question: bool


class Shape(BaseModel):
    """A topology as it is drawn."""

    nodes: list[ShapeNode]
    output: str


class Worth(BaseModel):
    """A node's value as `neuromas inspect` measured it; see docs/metrics.md."""

    cost: float
    cost_ci95: Interval
    shapley: float
    shapley_ci95: Interval
    verdict: str


class Worths(BaseModel):
    """The values of all nodes with one decoding. Accuracies are shares."""

    decoding: str
    split: str
    n: int
    accuracy: float
    nobody: float = Field(description="Accuracy without any hidden node.")
    nodes: dict[str, Worth]


class Comparison(BaseModel):
    title: str
    rows: list[ComparisonRow]


class ExampleView(BaseModel):
    """A question of the run's task."""

    text: str
    instruction: str
    answer: str = Field(description="The right one, in the form that the task compares with.")


class GradeView(BaseModel):
    """The verdict of the task on an answer."""

    reward: float | None = Field(description="In [0, 1]; null where the task gives no verdict.")
    parsed: str | None = Field(description="The answer that was read; null where none could be.")
    ambiguous: bool = Field(description="The reply commits to several answers at once.")


class RunView(BaseModel):
    """A run, apart from its lines. Fields are null or empty where the run has no such file."""

    name: str
    model: str | None = Field(description="The model's id in requests; null where this server only watches.")
    shape: Shape | None
    method: str | None
    task: str | None
    backbone: str | None
    seed: int | None
    steps: int | None = Field(description="Planned.")
    step: int = Field(description="Of the last line; -1 before there is one.")
    finished: bool
    answering: int | None = Field(description="Step after which the weights that answer were saved, where known.")
    lineage: list[GrowthRecord]
    worths: list[Worths]
    results: list[Result]
    warnings: list[str]
    comparison: Comparison | None
    examples: list[ExampleView] = Field(description="Questions of its task, to begin with.")


class MetricLines(BaseModel):
    """Lines of metrics.jsonl, without what the page does not draw; see docs/metrics.md."""

    lines: list[StepMetrics]


class SampleView(BaseModel):
    """A line of samples.jsonl without its tokens."""

    step: int
    split: Literal["train", "validation"] = "train"
    question: str = Field(description="Its text, or its id where the text was not kept.")
    reward: float
    answer: str
    turns: list[MessageRecord]


class Samples(BaseModel):
    samples: list[SampleView]
