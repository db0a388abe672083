"""Draw the differences between distilled and alone that a page has in its tables, with their intervals.

    python docs/experiments/differences.py docs/study.md PICTURE

Each table whose last column is called "distilled − alone" is a panel, and each of its rows a line, named by its first
two columns. The last cell begins with the difference and its 95 % interval, such as `+0.023 [+0.009, +0.037]`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_kd.config.errors import one_line_errors
from monai_kd.io.atomic import atomic_write

HEAD = "distilled − alone"
COLOUR = "#0f766e"
_NUMBER = r"([+−]?\d+(?:\.\d+)?)"
DIFFERENCE = re.compile(rf"{_NUMBER} \[{_NUMBER}, {_NUMBER}\]")


@dataclass
class Panel:
    """A table: its unit, and for each row the name, the difference, and the ends of the interval."""

    unit: str
    rows: list[tuple[str, float, float, float]] = field(default_factory=list)


def panels(page: str) -> list[Panel]:
    """The tables of a page, in Markdown, that have the column.

    Raises:
        ValueError: there is none, or a row has no difference with an interval around it.
    """
    found: list[Panel] = []
    inside = False
    for line in page.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip().replace("**", "") for cell in line.strip("|").split("|")]
        if cells[-1].startswith(HEAD):
            found.append(Panel(cells[-1].removeprefix(HEAD).lstrip(", ")))
            inside = True
        elif inside and not set(line) <= set("|-: "):
            found[-1].rows.append(("; ".join(_plain(cell) for cell in cells[:2]), *_difference(cells[-1], line)))
    if not any(panel.rows for panel in found):
        raise ValueError(f"the page has no table whose last column is called '{HEAD}'.")
    return found


def _plain(cell: str) -> str:
    """Without the address of a link, and the marks of code."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell).replace("`", "")


def _difference(cell: str, line: str) -> tuple[float, float, float]:
    match = DIFFERENCE.match(cell)
    if match is None:
        raise ValueError(f"a row has no difference with its interval, such as +0.02 [+0.01, +0.03]: {line}")
    difference, low, high = (float(number.replace("−", "-")) for number in match.groups())
    if not low <= difference <= high:
        raise ValueError(f"the interval of a row does not hold its difference: {line}")
    return difference, low, high


def draw(found: list[Panel]) -> Figure:
    """A panel below the other, its rows from top to bottom."""
    heights = [len(panel.rows) + 1.5 for panel in found]
    figure = Figure(figsize=(9, 0.8 + 0.27 * sum(heights)), layout="constrained")
    columns = figure.subplots(len(found), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, panel in zip(columns[:, 0], found, strict=True):
        _draw_panel(axes, panel)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for place, (_, difference, low, high) in enumerate(panel.rows):
        axes.plot([low, high], [place, place], color=COLOUR, linewidth=2)
        axes.plot(difference, place, "o", color=COLOUR, markersize=5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(panel.rows)), [name for name, *_ in panel.rows], fontsize=8)
    axes.set_ylim(len(panel.rows) - 0.3, -0.7)
    axes.set_xlabel(f"{HEAD}, {panel.unit}, 95 % interval; right: distilled is better", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


@one_line_errors
def main(words: list[str]) -> int:
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    page, picture = map(Path, words)
    figure = draw(panels(page.read_text(encoding="utf-8")))
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    print(f"{picture}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
