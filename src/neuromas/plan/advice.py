"""Changes to make where a step does not fit, and how far each setting could be raised where it does. Pure functions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from neuromas.plan.memory import memory
from neuromas.plan.model import ModelSizes
from neuromas.plan.work import Work
from neuromas.results.record import JsonRecord

# Of each field of `Work` that may be lowered, in the order of preference: its name in a recipe, what one pays for it,
# and where halving ends.
_COSTS = {
    "micro_tokens": ("train.micro_tokens", "more passes in the update, the same result", 256),
    "checkpointing": ("train.gradient_checkpointing", "about half as long again in the update, the same result", 0),
    "dtype": ("backbone.dtype", "rounding; logprob_gap in metrics.jsonl shows how much", 0),
    "rollouts": ("train.rollouts", "a noisier advantage", 2),
    "rank": ("adapter.rank", "adapters that can express less", 1),
    "questions": ("train.questions", "a noisier step", 1),
}
_WORTH = 0.99  # A change must bring the peak below this part of it.
_MOST = 1 << 20  # No setting is tried beyond this value.


@dataclass(frozen=True)
class Change(JsonRecord):
    """One suggestion; they add up in order."""

    setting: str  # As in a recipe.
    before: int | bool | str
    after: int | bool | str
    saves: int  # Bytes, after the changes before it.
    peak: int  # Bytes, with it.
    cost: str  # The price of it, in words.


def advise(model: ModelSizes, work: Work, base: int, limit: int) -> tuple[list[Change], Work]:
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
            setting, cost, _ = _COSTS[field]
            before, after = getattr(work, field), getattr(best, field)
            changes.append(Change(setting, before, after, peak(work) - peak(best), peak(best), cost))
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
        while (value := value // 2) >= _COSTS[field][2]:
            yield replace(work, **{field: value})


def room(model: ModelSizes, work: Work, base: int, limit: int) -> dict[str, int]:
    """The largest value of each setting that fits when it alone is raised; 0 where the step itself does not fit.

    nodes: in all, the new ones beside the widest layer's and read by nobody; tokens: of the node that may write most,
    the others in proportion.
    """

    def with_nodes(n: int) -> Work:
        widest = max(work.layers(), key=len)[0]
        more = tuple(replace(widest, node=f"+{k}") for k in range(n - len(work.turns)))
        adapters = work.adapters if work.adapters < len(work.turns) else n
        return replace(work, turns=(*more, *work.turns), adapters=adapters)

    def with_tokens(n: int) -> Work:
        share = n / longest
        turns = tuple(replace(t, writes=max(1, round(t.writes * share)), own=round(t.own * share)) for t in work.turns)
        return replace(work, turns=turns)

    longest = max(turn.writes for turn in work.turns)
    fits = lambda w: memory(model, w, base, most=True).peak <= limit
    raised = lambda field: _largest(getattr(work, field), lambda n: fits(replace(work, **{field: n})))
    return {
        "nodes": _largest(len(work.turns), lambda n: fits(with_nodes(n))),
        "rank": raised("rank"),
        "rollouts": raised("rollouts"),
        "tokens": _largest(longest, lambda n: fits(with_tokens(n))),
        "micro_tokens": raised("micro_tokens"),
    }


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
