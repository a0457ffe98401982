"""Signs in the metrics that training goes wrong."""

from typing import Any


def collapse_warnings(metrics: list[dict[str, Any]]) -> list[str]:
    """What in the last ten steps tells of a collapse; see docs/metrics.md. Empty when nothing does."""
    recent = [m for m in metrics[-10:] if "equal_reward_groups" in m]
    if not recent:
        return []
    mean = lambda key: sum(m[key] for m in recent) / len(recent)
    out: list[str] = []
    if mean("equal_reward_groups") > 0.8 and mean("accuracy") < 0.95:
        out.append(
            f"in {mean('equal_reward_groups'):.0%} of the questions every rollout got the same reward: little is left "
            "to learn from; lower the learning rate, raise train.entropy or train.kl, or set train.balanced"
        )
    constant = {m["top_answer"] for m in recent}
    if mean("top_answer_share") > 0.9 and len(constant) == 1 and None not in constant:
        out.append(
            f"the answer {recent[-1]['top_answer']!r} makes up {mean('top_answer_share'):.0%} of all answers: the "
            "network has collapsed to a constant; go back to an earlier checkpoint and a lower learning rate"
        )
    if mean("parse_rate") < 0.8:
        out.append(f"only {mean('parse_rate'):.0%} of the answers could be read; raise sampling.answer_tokens")
    return out
