"""The rows of a benchmark as text and as a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..io.atomic import atomic_write
from .row import Row

__all__ = ["aim_of", "check_picture", "plot_rows", "reached", "table"]

AIM = re.compile(r"\s*(<=|>=|≤|≥)\s*([0-9.]+)\s*")
REACHED, MISSED, NO_AIM = "#1b8a4b", "#c62828", "#607d8b"
WIDTH = 72  # characters of a name


def aim_of(row: Row) -> tuple[bool, float] | None:
    """Whether the ratio is to be at most (not at least) a number, and that number; ``None`` for an aim in words.

    Example:
        >>> aim_of(Row("a ÷ b", "<= 1.3", 1.2, {})), aim_of(Row("a ÷ b", "as small as can be", 1.2, {}))
        ((True, 1.3), None)
    """
    found = AIM.fullmatch(row.aim)
    return None if found is None else (found[1] in ("<=", "≤"), float(found[2]))


def reached(row: Row) -> bool | None:
    """Whether the ratio is what was aimed at; ``None`` for an aim in words.

    Example:
        >>> reached(Row("a ÷ b", "<= 1.3", 1.3, {})), reached(Row("a ÷ b", ">= 3", 2.9, {}))
        (True, False)
    """
    aim = aim_of(row)
    if aim is None:
        return None
    at_most, number = aim
    return row.ratio <= number if at_most else row.ratio >= number


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with what was measured of each way below its ratio."""
    lines = [f"{'':{WIDTH}}   ratio  aim"]
    for row in rows:
        mark = {True: "reached", False: "MISSED", None: ""}[reached(row)]
        lines.append(f"{row.name:{WIDTH}} {row.ratio:7.2f}  {row.aim}  {mark}".rstrip())
        lines += [f"    {name:{WIDTH - 4}} {value:9.1f} {row.unit}" for name, value in row.measured.items()]
    return "\n".join(lines)


def check_picture(path: Path) -> None:
    """Check, before anything is measured, that a picture can have this name.

    Raises:
        ValueError: its suffix is of no format that matplotlib writes.
    """
    known = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in known:
        raise ValueError(
            f"{path}: the name of a picture must end with one of {', '.join(f'.{each}' for each in known)}."
        )


def plot_rows(rows: Sequence[Row], path: str | Path, title: str = "") -> None:
    """Draw the ratios as bars on a logarithmic axis, with a line where each aim is.

    Args:
        rows: at least one.
        path: the picture to write.
        title: above it, such as the name of the machine.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to draw.")
    figure = Figure(figsize=(9, 1 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colours = [{True: REACHED, False: MISSED, None: NO_AIM}[reached(row)] for row in rows]
    axes.barh(range(len(rows)), [row.ratio for row in rows], color=colours, height=0.6)
    for place, row in enumerate(rows):
        aim = aim_of(row)
        if aim is not None:
            axes.plot([aim[1]] * 2, [place - 0.42, place + 0.42], color="black", linewidth=2)
        axes.annotate(f" {row.ratio:.2f}", (row.ratio, place), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel("ratio of medians (black: the aim)", fontsize=9)
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
