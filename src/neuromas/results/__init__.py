"""Records of what was measured: an evaluation, a step of training, an answered question, a row of a comparison.

All of them are written as JSON and read back, files of version 0.1.0 included. Pure data: no torch, no I/O.
"""

from neuromas.results.comparison import CellAnswer, CellKey, CellRecord, CellResult, ComparisonRow, Versus
from neuromas.results.evaluation import (
    AnswerRecord,
    FitCost,
    MessageRecord,
    Result,
    Score,
    TopAnswer,
    fit_line,
    floors_line,
    reading_lines,
)
from neuromas.results.record import Interval, JsonRecord
from neuromas.results.steps import (
    EngineMetrics,
    GrowthRecord,
    MessageCost,
    NodeMetrics,
    Silenced,
    StartRecord,
    StartSample,
    StepMetrics,
    TrainingCost,
    ValidationMetrics,
)

__all__ = [
    "AnswerRecord",
    "CellAnswer",
    "CellKey",
    "CellRecord",
    "CellResult",
    "ComparisonRow",
    "EngineMetrics",
    "FitCost",
    "GrowthRecord",
    "Interval",
    "JsonRecord",
    "MessageCost",
    "MessageRecord",
    "NodeMetrics",
    "Result",
    "Score",
    "Silenced",
    "StartRecord",
    "StartSample",
    "StepMetrics",
    "TopAnswer",
    "TrainingCost",
    "ValidationMetrics",
    "Versus",
    "fit_line",
    "floors_line",
    "reading_lines",
]
