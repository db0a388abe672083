"""The version is defined in one place, and repeated where other programs read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_kd import __version__

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("setup.cfg", r"(?m)^version = attr: monai_kd\.__version__$"),
        ("CITATION.cff", rf"(?m)^version: {re.escape(__version__)}$"),
        ("CHANGELOG.md", rf"(?m)^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$"),
    ],
)
def test_version(file: str, pattern: str) -> None:
    assert re.search(pattern, (ROOT / file).read_text(encoding="utf-8"))
