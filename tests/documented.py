"""Command lines of the pages, as they are printed there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def documented(page: str, *beginnings: str) -> list[str]:
    """The indented lines of a page that begin so, with the lines that continue them, and variables filled in.

    Args:
        page: path in the repository.
        beginnings: what the lines begin with; each must be found.
    """
    text = re.sub(r" *\\\n +", " ", (ROOT / page).read_text(encoding="utf-8"))
    # A value in quotes may continue on the next line too.
    text = re.sub(r"',\n +'", "','", text)
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for name, value in re.findall(r"(?m)^    ([A-Z])=(\S+)$", text):
        lines = [line.replace(f"${name}", value) for line in lines]
    for beginning in beginnings:
        assert any(line.startswith(beginning) for line in lines), f"{page} has no line that begins with {beginning}"
    return [line for line in lines if line.startswith(beginnings)]
