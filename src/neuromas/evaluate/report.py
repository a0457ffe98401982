"""The report of a comparison, made of its JSON lines alone: the same lines give the same bytes."""

from collections.abc import Sequence
from pathlib import Path

from neuromas.evaluate.figure import accuracy_and_cost
from neuromas.evaluate.render import Block, Heading, Picture, Table, Text, to_html, to_markdown
from neuromas.evaluate.stats import RESAMPLES
from neuromas.evaluate.table import Cell, read_cells, results, rows
from neuromas.files import write_json, write_text
from neuromas.results import ComparisonRow, Versus, fit_line, floors_line, reading_lines

_LONGEST = 240  # characters shown of a reply

HOW_TO_READ = (
    "Accuracy is the mean reward; its 95 % interval is Wilson's at the number of distinct questions. All seeds answer "
    "the same questions, so n is not multiplied by the seeds, and the interval covers the choice of questions, not of "
    "seeds; the accuracy of each seed stands beside it. Calls and tokens are means a question; sequential ones count "
    "only what must wait for one another. A row that gives the same answers with every seed is asked once."
)
HOW_TESTED = (
    "The difference is the row's accuracy minus the reference's on the same questions, each question counting once: "
    "with several seeds, by its mean over them. Its interval is a paired bootstrap over questions "
    f"({RESAMPLES:,} resamples, seeded). p is McNemar's exact one where both rows have one seed and rewards of 0 or 1 "
    "(marked M), else the bootstrap's; it is corrected for the number of rows by Holm's method, task by task. The "
    "seeds are taken as given: nothing here tells how another training run would have come out."
)


def write_report(folder: Path) -> list[ComparisonRow]:
    """Write results.json, summary.json, accuracy_cost.png, report.md and report.html; returns the rows.

    Raises ConfigError where the folder holds no complete cell.
    """
    cells = read_cells(folder)
    table = rows(cells)
    write_json(folder / "results.json", [result.to_dict() for result in results(cells)])
    write_json(folder / "summary.json", [row.to_dict() for row in table])
    picture = accuracy_and_cost(table, folder / "accuracy_cost.png")
    title = cells[0].record.comparison
    blocks = content(title, cells, table, picture)
    write_text(folder / "report.md", to_markdown(blocks))
    write_text(folder / "report.html", to_html(blocks, title))
    return table


def content(title: str, cells: list[Cell], table: list[ComparisonRow], picture: Path) -> list[Block]:
    """The blocks of the report, task by task."""
    tasks = list(dict.fromkeys(row.task for row in table))
    blocks: list[Block] = [Heading(title, 1), Text(f"Backbone: {cells[0].record.backbone}. {HOW_TO_READ}")]
    blocks += [Picture(picture, "Accuracy against generated tokens a question; the tables below hold the same numbers")]
    for task in tasks:
        of_task = [row for row in table if row.task == task]
        first = of_task[0]
        strong = frozenset(i for i, row in enumerate(of_task) if row.reference)
        named = f"{task} (version {first.task_version}), {first.split} split, n = {first.n}"
        blocks += [Heading(named), Text(f"The {floors_line(first)}."), _figures(of_task, strong)]
        blocks += [*_unread(of_task), _tests(of_task)]
        blocks += [Text(HOW_TESTED), _about(of_task), *_example(task, cells)]
    if not all(row.matched_samples for row in table):
        blocks.insert(2, Text("WARNING: the trained systems drew different numbers of samples; see the tables below."))
    return blocks


def _figures(of_task: list[ComparisonRow], strong: frozenset[int]) -> Table:
    head = ["system", "#", "accuracy", "95 %", "each seed", "seeds", "parsed", "calls", "sequential calls", "tokens"]
    head += ["sequential tokens", "trainable"]
    body = [
        [
            row.system,
            str(place),
            f"{row.accuracy:.1%}",
            interval(row.ci95),
            " ".join(f"{a * 100:.1f}" for a in row.by_seed),
            str(row.seeds),
            f"{row.parse_rate:.1%}",
            f"{row.calls:.4g}",
            f"{row.sequential_calls:.4g}",
            f"{row.generated_tokens:.1f}",
            f"{row.sequential_tokens:.1f}",
            f"{row.trainable_parameters:,}",
        ]
        for place, row in enumerate(of_task, 1)
    ]
    return Table(head, body, strong=strong)


def _unread(of_task: list[ComparisonRow]) -> list[Block]:
    """The shares of answers that could not be read whole; nothing where all could be."""
    told = [f"{row.system}: {', '.join(lines)}." for row in of_task if (lines := reading_lines(row))]
    return [Text(" ".join(told))] if told else []


def _tests(of_task: list[ComparisonRow]) -> Block:
    reference = next((row.system for row in of_task if row.reference), None)
    tested = [(row, row.versus_reference) for row in of_task if row.versus_reference]
    if reference is None or not tested:
        return Text("No paired tests: the reference, or every other row, has no answers yet.")
    body = [[row.system, points(test.difference), difference(test.ci95), *ps(test)] for row, test in tested]
    return Table([f"minus {reference}", "difference", "95 %", "p", "p, Holm"], body)


def interval(ci95: Sequence[float]) -> str:
    """An interval of shares in per cent."""
    return f"{ci95[0] * 100:.1f} to {ci95[1] * 100:.1f}"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(share * 100, 1) + 0.0:+.1f}".replace("-", "−")  # + 0.0: no minus before nought


def difference(ci95: Sequence[float]) -> str:
    return f"{points(ci95[0])} to {points(ci95[1])}"


def ps(test: Versus) -> list[str]:
    """The p-value, M for McNemar, and the corrected one."""
    return [_p(test.p) + (" M" if test.test == "McNemar" else ""), _p(test.p_holm)]


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _about(of_task: list[ComparisonRow]) -> Table:
    head = ["system", "what it is", "control", "decoding", "samples", "learning rate", "validation by rate", "notes"]
    body = [
        [
            row.system,
            row.about,
            "; ".join(row.control_for),
            row.decoding,
            f"{row.samples:,}" if row.samples else "",
            f"{row.learning_rate:g}" if row.learning_rate else "",
            ", ".join(f"{rate}: {value:.1%}" for rate, value in row.validation_by_rate.items()),
            "; ".join([*row.notes, *([fit_line(row.fit)] if row.fit else [])]),
        ]
        for row in of_task
    ]
    told = [i for i in range(len(head)) if any(row[i] for row in body)]  # an empty column is left out
    words = frozenset(place for place, i in enumerate(told) if head[i] not in ("samples", "learning rate"))
    return Table([head[i] for i in told], [[row[i] for i in told] for row in body], words=words)


def _example(task: str, cells: list[Cell]) -> list[Block]:
    """The first question that some systems get right and others not, as each answered it with its first seed."""
    firsts: dict[str, Cell] = {}
    for cell in cells:
        if cell.record.task == task:
            firsts.setdefault(cell.record.system, cell)
    some = list(firsts.values())
    rewards = [[cell.answers[i].reward for cell in some] for i in range(len(some[0].answers))]
    pick = next((i for i, row in enumerate(rewards) if min(row) < max(row)), 0)
    question = some[0].answers[pick]
    body = [
        [name, f"{line.reward:g}", line.parsed or "(unreadable)", cut(line.reply)]
        for name, line in ((name, cell.answers[pick]) for name, cell in firsts.items())
    ]
    told = f"Question {question.id}, answer {question.answer}"
    return [Heading(told, 3), Table(["system", "reward", "read as", "reply"], body, words=frozenset({0, 2, 3}))]


def cut(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
