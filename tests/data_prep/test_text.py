"""Foreign text: shown by terminals, run by no spreadsheet, and read back as it was."""

from __future__ import annotations

import csv
import io
import random

import pytest

from data_prep.text import as_cell, from_cell, printable

NAMES = {
    "plain": ("a.png", "a.png"),
    "letters": ("Schädel 頭 🧠.png", "Schädel 頭 🧠.png"),
    "no text": ("caf\udce9.png", "caf?.png"),
    "direction": ("\u202egnp.exe", r"\u202egnp.exe"),
    "isolate": ("\u2066a\u2069", r"\u2066a\u2069"),
    "terminal": ("\x1b[2J\x07a\x9b", r"\x1b[2J\x07a\x9b"),
    "line breaks": ("a\r\nb\u2028c", r"a\x0d\x0ab\u2028c"),
    "nothing to see": ("a\u200bb\xad\U000e0041", r"a\u200bb\xad\U000e0041"),
    "backslash": (r"a\b\x41", r"a\b\x41"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("text", "shown"), NAMES.values(), ids=NAMES)
def test_shown(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        *[(f"{first}cmd|' /C calc'!A0", f"'{first}cmd|' /C calc'!A0") for first in "=+-@＝＋－＠"],
        ("\t=1", r"\x09=1"),
        ("\r=1", r"\x0d=1"),
        ("'=1", "''=1"),
        ("'80s", "'80s"),
        ("-", "'-"),
        ("-.", "'-."),
        *[(number, number) for number in ("-0.5", "+3", "-1e-3", "-.5", "7.", -0.5, 3, None, True)],
        ("-0.5 mm", "'-0.5 mm"),
        ("-٣", "'-٣"),
        ("caf\udce9", r"caf\udce9"),
        (r"a\x41", r"a\\x41"),
        (r"true \ predicted", r"true \ predicted"),
    ],
)
def test_cells(value, cell):
    assert as_cell(value) == cell
    if isinstance(value, str):
        assert from_cell(cell) == value


def test_every_text_is_read_back_and_none_is_a_formula():
    alphabet = [
        *"=+-@'\"\\,;xuU0041abce. \t\r\n\x00\x1b",
        "\u202e",
        "\ufeff",
        "\ud800",
        "\udce9",
        "\U000e0041",
        "ä",
        "＝",
    ]
    choose = random.Random(0)
    texts = {"".join(choose.choices(alphabet, k=choose.randrange(9))) for _ in range(20_000)}
    cells = {text: as_cell(text) for text in texts}
    assert len(set(cells.values())) == len(texts)
    table = io.StringIO(newline="")
    csv.writer(table).writerows(cells.items())
    for text, cell in cells.items():
        assert from_cell(cell) == text
        assert cell.isprintable()
        if cell.startswith(tuple("=+-@＝＋－＠\t\r")):
            float(cell)  # a number, and nothing else
