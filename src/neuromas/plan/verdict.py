"""A plan in words."""

from neuromas.plan.advice import Change
from neuromas.plan.report import Report


def verdict(report: Report) -> str:
    """One paragraph: memory, seconds, and the settings that could be raised or must be changed."""
    work, most = report.longest, report.longest_memory
    text = (
        f"{len(work.turns)} nodes of rank {work.rank} on {report.model.name} ({work.dtype}), {work.questions} "
        f"questions × {work.rollouts} rollouts: at most {gigabytes(most.peak)} of {gigabytes(report.device.memory)}"
    )
    text += ", so it fits." if report.fits else ", so it does not fit."
    if report.seconds is not None:
        s = report.seconds
        source = "calibrated here" if report.device.kind == "cpu" else "estimated from published peaks, not measured"
        text += f" A step takes about {s.step:.3g} s ({source}): {s.sample:.3g} sampling, "
        text += f"{s.update:.3g} updating if no group has equal rewards, {s.measure:.3g} measuring."
    if report.fits:
        text += " Each alone could be raised to: " + ", ".join(f"{k} {v:,}" for k, v in report.room.items()) + "."
    elif report.fits_changed:
        text += " It fits with these changes, in this order:"
    else:
        text += " It does not fit even with all of these; take a smaller backbone, fewer nodes or a larger device:"
    return text


def change_line(change: Change) -> str:
    return (
        f"{change.setting} {change.before} → {change.after}: saves {gigabytes(change.saves)}, peak "
        f"{gigabytes(change.peak)} ({change.cost})"
    )


def gigabytes(count: int) -> str:
    """In units of 10^9 bytes."""
    return f"{count / 1e9:.2f} GB"
