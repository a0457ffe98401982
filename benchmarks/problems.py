"""The problems of `seconds to accuracy` as plain data: the same task, backbone and reward for every library."""

from dataclasses import dataclass, field
from typing import Any, Literal

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ONE_DIGIT = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


@dataclass(frozen=True)
class Problem:
    """A task, a network that learns it, and the sizes of a step."""

    name: str
    task: str
    topology: str
    backbone: str
    style: Literal["chat", "compact"]  # of the prompts
    target: float  # validation accuracy to be reached
    options: dict[str, Any] = field(default_factory=dict[str, Any])  # of the task
    rank: int = 8
    targets: tuple[str, ...] = ALL_LINEAR[:4]
    temperature: float = 1.0
    message_tokens: int = 12
    answer_tokens: int | None = None  # None: what the task says
    questions: int = 8
    rollouts: int = 8
    steps: int = 40
    validate_every: int = 5
    validation: int = 128
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            "demo",
            "compositional",
            "2",
            "tiny",
            "compact",
            0.7,
            {"depth": 2},
            targets=ALL_LINEAR,
            questions=2,  # few questions a step learn soonest here (docs/LOG.md), for both libraries
            steps=80,
        ),
        Problem(
            "arithmetic",
            "reasoning-gym/chain_sum+products",
            "single",
            "smollm2-135m",
            "chat",
            0.7,
            {"chain_sum": ONE_DIGIT, "products": ONE_DIGIT},
            rank=24,
            temperature=0.7,
            validation=60,
            rates=(1e-4, 3e-4, 1e-3),
        ),
    )
}
