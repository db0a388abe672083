"""Tables that go out to spreadsheets and come back."""

from __future__ import annotations

import csv

import pytest

from monai_kd.io.table import read_table, write_table

HOSTILE = ["=HYPERLINK(1)", "@SUM(A1)", "-a", "\u202egnp", "a\nb", "\x1b[2J", r"a\x41", "'=1", 'a"b,c', "", "ä"]


def test_text_comes_back(tmp_path):
    rows = [{"file": text, "=p": -0.5, "empty": None} for text in HOSTILE]
    write_table(rows, ["file", "=p", "empty", "absent"], tmp_path / "a.csv")
    assert read_table(tmp_path / "a.csv") == [
        {"file": text, "=p": "-0.5", "empty": "", "absent": ""} for text in HOSTILE
    ]
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        for cell in (cell for line in csv.reader(file) for cell in line if cell != "-0.5"):
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert cell.isprintable()


def test_bytes_that_are_no_text_are_question_marks(tmp_path):
    write_table([{"file": "caf\udce9"}], ["file"], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "file\ncaf?\n"


def test_a_column_that_is_not_listed(tmp_path):
    with pytest.raises(ValueError, match="other"):
        write_table([{"file": "a", "other": 1}], ["file"], tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_short_and_long_lines_and_no_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1\n1,2,3\n")
    assert read_table(path) == [{"a": "1", "b": None}, {"a": "1", "b": "2"}]
    path.write_bytes(b"a,b\n\xff\n")
    with pytest.raises(ValueError, match=r"a\.csv can't be read as a table"):
        read_table(path)
