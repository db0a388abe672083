"""Escape file names and other untrusted text, so that terminals, web pages and spreadsheets only display it."""

from __future__ import annotations

import re
from typing import TypeVar

Value = TypeVar("Value")

_SURROGATES = re.compile("[\ud800-\udfff]")
# Text that spreadsheets take for a formula, see https://owasp.org/www-community/attacks/CSV_Injection, also in
# full-width forms; and the same after apostrophes, so that removing one apostrophe restores the original text.
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def printable(text: str) -> str:
    r"""Escape the characters that move the cursor, change the direction of writing or are invisible.

    Bytes of a file name that can't be decoded become question marks.

    Example:
        >>> print(printable("a\u202egnp.exe\n\x1b[2J"), printable("caf\udce9.png"))
        a\u202egnp.exe\x0a\x1b[2J caf?.png
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in _SURROGATES.sub("?", text))


def as_cell(value: Value) -> Value | str:
    r"""Escape text for a CSV table, as `printable`; an apostrophe is put before what a spreadsheet runs as a formula.

    Numbers, also those written as text, and all other values stay as they are. `from_cell` restores the text.

    Example:
        >>> as_cell("=1+1"), as_cell("-0.5"), as_cell(-0.5), as_cell("-a"), as_cell("'80s")
        ("'=1+1", '-0.5', -0.5, "'-a", "'80s")
    """
    if not isinstance(value, str):
        return value
    text: str = value
    if "\\" in text or not text.isprintable():
        text = "".join(_cell_character(*pair) for pair in zip(text, [*text[1:], ""], strict=True))
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_cell(cell: str) -> str:
    r"""Restore the text that `as_cell` has escaped.

    Example:
        >>> [from_cell(as_cell(text)) for text in ("=1+1", "'=1+1", "a\nb", r"a\x0ab", "-0.5")]
        ['=1+1', "'=1+1", 'a\nb', 'a\\x0ab', '-0.5']
    """
    text = cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
    return _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cell_character(character: str, following: str) -> str:
    if not character.isprintable():
        return _escape(character)
    # A backslash is doubled only where it would be read as the beginning of an escape sequence.
    return "\\\\" if character == "\\" and (following in "\\xuU" or not following.isprintable()) else character
