"""What the page is told of a run: the shape of its answers, and of what is taken from files that are not trusted."""

from typing import Literal

from pydantic import BaseModel, Field

Interval = tuple[float, float]


class ShapeNode(BaseModel):
    id: str
    layer: int = Field(description="From 1.")
    upstream: list[str]
    sees_question: bool


class Shape(BaseModel):
    """A topology as it is drawn."""

    nodes: list[ShapeNode]
    output: str


class Growth(BaseModel):
    """One entry of a checkpoint's lineage."""

    step: int
    operators: list[str]
    new: list[str]
    init: str
    run: str | None = None
    checkpoint: str | None = None


class Worth(BaseModel):
    """A node's value, as `neuromas inspect` found it; see docs/metrics.md."""

    cost: float
    cost_ci95: Interval
    shapley: float
    shapley_ci95: Interval
    verdict: str


class Worths(BaseModel):
    """Accuracies are shares."""

    decoding: str
    split: str
    n: int
    accuracy: float
    nobody: float = Field(description="Accuracy without any hidden node.")
    nodes: dict[str, Worth]


class Floor(BaseModel):
    chance: float
    best_constant: float


class Result(BaseModel):
    """A test figure of final.json."""

    checkpoint: str
    decoding: str
    delivery: str = "as sent"
    votes: int | None = None
    n: int
    accuracy: float
    ci95: Interval
    parse_rate: float
    calls: float
    generated_tokens: float
    floors: Floor


class Versus(BaseModel):
    difference: float
    ci95: Interval
    p_holm: float


class Row(BaseModel):
    """A system on a task, in a comparison."""

    system: str
    task: str
    n: int
    seeds: int
    accuracy: float
    ci95: Interval
    calls: float
    trainable_parameters: int
    floors: Floor
    reference: bool = False
    versus_reference: Versus | None = None


class Comparison(BaseModel):
    title: str
    rows: list[Row]


class Run(BaseModel):
    """What is known of a run apart from its lines. Fields of what is not there are null or empty."""

    name: str
    model: str | None = Field(description="What to ask it as; null where this server only watches.")
    shape: Shape | None
    method: str | None
    task: str | None
    backbone: str | None
    seed: int | None
    steps: int | None = Field(description="Planned.")
    step: int = Field(description="Of the last line; -1 before there is one.")
    finished: bool
    answering: int | None = Field(description="Step after which the weights that answer were saved, where known.")
    lineage: list[Growth]
    worths: list[Worths]
    results: list[Result]
    warnings: list[str]
    comparison: Comparison | None
    examples: list[str] = Field(description="Questions of its task, to begin with.")


class NodeFigures(BaseModel):
    gradient_norm: float | None = None
    entropy: float | None = None
    length: float | None = None


class Silenced(BaseModel):
    changed: float
    cost: float


class SilencedNodes(BaseModel):
    nodes: dict[str, Silenced] = {}


class Validation(BaseModel):
    accuracy: float
    ci95: Interval
    n: int
    silenced: SilencedNodes = SilencedNodes()


class Line(BaseModel):
    """A line of metrics.jsonl, as far as the page draws it; see docs/metrics.md."""

    step: int
    reward: float | None = None
    accuracy: float | None = None
    validation: Validation | None = None
    nodes: dict[str, NodeFigures] = {}


class Lines(BaseModel):
    lines: list[Line]


class Said(BaseModel):
    node: str
    text: str
    truncated: bool


class Sample(BaseModel):
    """A line of samples.jsonl without its tokens."""

    step: int
    split: Literal["train", "validation"] = "train"
    question: str = Field(description="Its text, or its id where the text was not kept.")
    reward: float
    answer: str
    turns: list[Said]


class Samples(BaseModel):
    samples: list[Sample]
