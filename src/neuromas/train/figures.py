"""What any way of training reports of the traces that it sampled. Legend: P question, G rollout."""

from collections import Counter
from typing import Any

from torch import Tensor

from neuromas.train.objectives import equal_reward_groups
from neuromas.types import Grade, NodeCall, Trace


def answer_figures(traces: list[Trace], grades: list[Grade], rewards_PG: Tensor) -> dict[str, Any]:
    """What any way of training reports of the traces it sampled, and what sampling them cost."""
    answers = Counter(g.parsed for g in grades)  # None: unreadable
    top, count = answers.most_common(1)[0]
    return {
        "reward": rewards_PG.mean().item(),
        "accuracy": sum(g.reward == 1 for g in grades) / len(grades),
        "parse_rate": sum(g.parsed is not None for g in grades) / len(grades),
        "equal_reward_groups": equal_reward_groups(rewards_PG).double().mean().item(),
        "top_answer": top,
        "top_answer_share": count / len(grades),
        "distinct_answers": len(answers),
        "rollouts": len(grades),
        "calls": sum(len(t.calls) for t in traces),
        "prompt_tokens": sum(t.prompt_tokens for t in traces),
        "generated_tokens": sum(t.generated_tokens for t in traces),
    }


def add_costs(figures: dict[str, Any], calls: list[NodeCall]) -> dict[str, Any]:
    """The step's figures with the cost of calls beside the rollouts', where there were any."""
    if calls:
        tokens = sum(len(c.completion_ids) for c in calls)
        figures["prompt_tokens"] += sum(c.prompt_tokens for c in calls)
        figures["calls"] += len(calls)
        figures["generated_tokens"] += tokens
        figures |= {"branch_calls": len(calls), "branch_tokens": tokens}
    return figures
