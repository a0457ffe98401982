"""What to change where a step does not fit, and how far each setting could be raised where it does. Pure functions."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from neuromas.plan.memory import memory
from neuromas.plan.model import Model
from neuromas.plan.work import Work

_SMALLEST = {"micro_tokens": 256, "rollouts": 2, "rank": 1, "questions": 1}  # halving ends here
_WORTH = 0.99  # of the peak: a change must bring it below
_MOST = 1 << 20  # no setting is tried beyond


@dataclass(frozen=True)
class Change:
    """One suggestion; they add up in order."""

    setting: str  # as in a recipe
    before: Any
    after: Any
    saves: int  # bytes, after the changes before it
    peak: int  # bytes, with it
    cost: str  # what one pays

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


_COSTS = {
    "micro_tokens": ("train.micro_tokens", "more passes in the update, the same result"),
    "checkpointing": ("train.gradient_checkpointing", "about half as long again in the update, the same result"),
    "dtype": ("backbone.dtype", "rounding; logprob_gap in metrics.jsonl shows how much"),
    "rollouts": ("train.rollouts", "a noisier advantage"),
    "rank": ("adapter.rank", "adapters that can express less"),
    "questions": ("train.questions", "a noisier step"),
}


def advise(model: Model, work: Work, base: int, limit: int) -> tuple[list[Change], Work]:
    """Changes in their order of preference until the peak is at most `limit`, and the step with all of them.

    Where no list of changes suffices, the last peak is above the limit still.
    """
    peak = lambda w: memory(model, w, base, most=True).peak
    changes: list[Change] = []
    for field in [*_COSTS, *_COSTS]:  # twice: a later change can make an earlier one worth it
        best = work
        for tried in _smaller(work, field):
            if peak(work) <= limit or peak(best) <= limit:
                break
            if peak(tried) < _WORTH * peak(best):
                best = tried
        if best is not work:
            name, cost = _COSTS[field]
            before, after = getattr(work, field), getattr(best, field)
            changes.append(Change(name, before, after, peak(work) - peak(best), peak(best), cost))
            work = best
    return changes, work


def _smaller(work: Work, field: str) -> Iterator[Work]:
    """The step with less and less of one setting."""
    if field == "checkpointing":
        yield from () if work.checkpointing else (replace(work, checkpointing=True),)
    elif field == "dtype":
        yield from (replace(work, dtype="bfloat16"),) if work.dtype == "float32" else ()
    else:
        value: int = getattr(work, field)
        while value // 2 >= _SMALLEST[field]:
            value //= 2
            yield replace(work, **{field: value})


def room(model: Model, work: Work, base: int, limit: int) -> dict[str, int]:
    """How far each setting could be raised alone: the largest value that fits; 0 where the step itself does not.

    nodes: in all, the new ones beside the widest layer's and read by nobody; tokens: what every node may write.
    """

    def with_nodes(n: int) -> Work:
        widest = max(work.layers(), key=len)[0]
        more = tuple(replace(widest, node=f"+{k}") for k in range(n - len(work.turns)))
        adapters = work.adapters if work.adapters < len(work.turns) else n
        return replace(work, turns=(*more, *work.turns), adapters=adapters)

    def with_tokens(n: int) -> Work:
        longest = max(turn.writes for turn in work.turns)
        share = n / longest
        turns = tuple(replace(t, writes=max(1, round(t.writes * share)), own=round(t.own * share)) for t in work.turns)
        return replace(work, turns=turns)

    settings: dict[str, tuple[int, Callable[[int], Work]]] = {
        "nodes": (len(work.turns), with_nodes),
        "rank": (work.rank, lambda n: replace(work, rank=n)),
        "rollouts": (work.rollouts, lambda n: replace(work, rollouts=n)),
        "tokens": (max(turn.writes for turn in work.turns), with_tokens),
        "micro_tokens": (work.micro_tokens, lambda n: replace(work, micro_tokens=n)),
    }
    fits = lambda w: memory(model, w, base, most=True).peak <= limit
    return {name: _largest(now, lambda n, made=made: fits(made(n))) for name, (now, made) in settings.items()}


def _largest(now: int, fits: Callable[[int], bool]) -> int:
    """The largest value from `now` on that fits, to about a twentieth; 0 where not even `now` does."""
    if not fits(now):
        return 0
    low, high = now, now * 2
    while high < _MOST and fits(high):
        low, high = high, high * 2
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
