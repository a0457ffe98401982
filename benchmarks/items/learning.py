"""Code that the learners share: their options, and a problem as a recipe of this project."""

import argparse

from benchmarks.problems import PROBLEMS, Problem
from neuromas.config import RunConfig


def config(problem: Problem, rate: float, seed: int, args: argparse.Namespace) -> RunConfig:
    """A problem as settings of a run."""
    return RunConfig.make(
        {
            "topology": problem.topology,
            "seed": seed,
            "task": {"name": problem.task, "options": problem.options},
            "backbone": {"name": problem.backbone, "style": problem.style, "dtype": args.dtype, "device": "cpu"},
            "adapter": {"rank": problem.rank, "targets": problem.targets},
            "sampling": {
                "temperature": problem.temperature,
                "message_tokens": problem.message_tokens,
                "answer_tokens": problem.answer_tokens,
            },
            "train": {
                "steps": args.steps or problem.steps,
                "questions": problem.questions,
                "rollouts": args.rollouts or problem.rollouts,
                "learning_rate": rate,
                "validate_every": problem.validate_every,
                "validation_questions": problem.validation,
                "checkpoint_every": 10**6,
                "stop_after_seconds": args.seconds,
            },
        }
    )


def options() -> argparse.Namespace:
    """The options of every learner. Sets the number of threads and the seed of torch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("problem", choices=list(PROBLEMS))
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="updates; by default the problem's")
    parser.add_argument("--rollouts", type=int, help="G; by default the problem's")
    parser.add_argument("--seconds", type=float, help="stop once training has taken so long")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args
