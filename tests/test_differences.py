"""The picture of the differences that docs/study.md has in its tables."""

from __future__ import annotations

import re
import runpy

import pytest
from documented import ROOT, run

PROGRAM = ROOT / "docs" / "experiments" / "differences.py"
PAGE = """
| student | folds | alone | distilled − alone, Dice |
|---|---|---|---|
| [3.5 M](a.md#b) | 4 | 0.762 | **+0.023 [+0.009, +0.037]**, p 0.004 ([how](a.md)) |
| `tiny` | 1 | 0.9 | −0.012 [−0.021, −0.004] |

| other | table |
|---|---|
| 1 | 2 |

| student | teacher | distilled − alone, points |
|---|---|---|
| B0 | VGG | −1.0 [−3.7, +1.3] |
"""


@pytest.fixture(scope="module")
def program() -> dict:
    return runpy.run_path(str(PROGRAM))


def test_rows_and_units_of_the_tables(program):
    dice, points = program["panels"](PAGE)
    assert dice.unit == "Dice"
    assert dice.rows == [("3.5 M; 4", 0.023, 0.009, 0.037), ("tiny; 1", -0.012, -0.021, -0.004)]
    assert (points.unit, points.rows) == ("points", [("B0; VGG", -1.0, -3.7, 1.3)])


def test_lines_and_points(program):
    figure = program["draw"](program["panels"](PAGE))
    of_dice, of_points = figure.axes
    assert [tuple(line.get_xdata()) for line in of_dice.lines if len(line.get_xdata()) == 2][:2] == [
        (0.009, 0.037),
        (-0.021, -0.004),
    ]
    assert [label.get_text() for label in of_dice.get_yticklabels()] == ["3.5 M; 4", "tiny; 1"]
    # The first row is the upper one.
    assert of_dice.get_ylim()[0] > of_dice.get_ylim()[1]
    assert (-3.7, 1.3) in [tuple(line.get_xdata()) for line in of_points.lines]
    (point,) = (line for line in of_points.lines if line.get_marker() == "o")
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([-1.0], [0])


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("+0.02", "has no difference with its interval"),
        ("+0.05 [+0.01, +0.03]", "does not hold its difference"),
    ],
)
def test_a_row_that_cannot_be_drawn(program, cell, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        program["panels"](f"| a | b | distilled − alone, Dice |\n|---|---|---|\n| 1 | 2 | {cell} |\n")


def test_a_page_without_such_a_table(program, tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text("| a | b |\n|---|---|\n| 1 | 2 |\n")
    with pytest.raises(ValueError, match="no table whose last column"):
        program["panels"]((tmp_path / "page.md").read_text())
    monkeypatch.setattr("sys.argv", [str(PROGRAM), str(tmp_path / "page.md"), str(tmp_path / "out.png")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(PROGRAM), run_name="__main__")
    assert end.value.code
    assert "no table whose last column" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_line_of_the_page(lines, figures, tmp_path, monkeypatch):
    """All differences of the page are drawn, into a file of its own."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (line,) = lines
    run(line.replace("docs/images/study_differences.png", "picture.png"), tmp_path, monkeypatch)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    assert len(figure.axes) == 2
    answer = (ROOT / "docs" / "study.md").read_text(encoding="utf-8").partition("\n## ")[0]
    table, of_classes = (len(axes.get_yticklabels()) for axes in figure.axes)
    rows = [row for row in answer.splitlines() if re.match(r"\|.*\| [+−][\d.]+ \[[^|]*\|$", row)]
    assert table + of_classes == len(rows) >= 22
