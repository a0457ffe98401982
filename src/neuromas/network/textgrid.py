"""A sheet of characters on which boxes and lines are drawn; lines that meet join up."""

from collections.abc import Sequence

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_GLYPHS: dict[int, str] = dict(
    zip(
        (_UP | _DOWN, _LEFT | _RIGHT, _DOWN | _RIGHT, _DOWN | _LEFT, _UP | _RIGHT, _UP | _LEFT, _UP | _DOWN | _RIGHT,
         _UP | _DOWN | _LEFT, _DOWN | _LEFT | _RIGHT, _UP | _LEFT | _RIGHT, 15, _UP, _DOWN, _LEFT, _RIGHT),
        "│─┌┐└┘├┤┬┴┼││──",
        strict=True,
    )
)  # fmt: skip


class Grid:
    """Coordinates are (column, line) from the top left. `str(grid)` is the picture."""

    def __init__(self) -> None:
        self._arms: dict[tuple[int, int], int] = {}  # which sides of a cell a line leaves by
        self._ends: set[tuple[int, int]] = set()  # where vertical lines start or end
        self._text: dict[tuple[int, int], str] = {}

    def text(self, x: int, y: int, text: str) -> None:
        self._text |= {(x + i, y): c for i, c in enumerate(text)}

    def horizontal(self, x1: int, x2: int, y: int) -> None:
        """Passes under vertical lines it crosses; joins those that start or end on it."""
        for x in range(x1, x2 + 1):
            self._add(x, y, (_LEFT if x > x1 else 0) | (_RIGHT if x < x2 else 0))

    def vertical(self, x: int, y1: int, y2: int) -> None:
        self._ends |= {(x, y1), (x, y2)}
        for y in range(y1, y2 + 1):
            self._add(x, y, (_UP if y > y1 else 0) | (_DOWN if y < y2 else 0))

    def box(self, x: int, y: int, width: int, lines: Sequence[str]) -> None:
        bottom = y + len(lines) + 1
        for edge in (y, bottom):
            self.horizontal(x, x + width - 1, edge)
        for side in (x, x + width - 1):
            self.vertical(side, y, bottom)
        for i, line in enumerate(lines, start=1):
            self.text(x + 1, y + i, line.center(width - 2))

    def _add(self, x: int, y: int, arms: int) -> None:
        self._arms[x, y] = self._arms.get((x, y), 0) | arms

    def _glyph(self, at: tuple[int, int], arms: int) -> str:
        crosses = arms == _UP | _DOWN | _LEFT | _RIGHT and at not in self._ends
        return "│" if crosses else _GLYPHS.get(arms, " ")

    def __str__(self) -> str:
        cells = {at: self._glyph(at, arms) for at, arms in self._arms.items()} | self._text
        width = max(x for x, _ in cells) + 1
        height = max(y for _, y in cells) + 1
        lines = ["".join(cells.get((x, y), " ") for x in range(width)).rstrip() for y in range(height)]
        margin = min(len(line) - len(line.lstrip()) for line in lines if line)
        return "\n".join(line[margin:] for line in lines)
