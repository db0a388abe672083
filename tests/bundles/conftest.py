"""Pictures of runs are not drawn here, where they take a quarter of the time: other tests draw them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image


@pytest.fixture
def drawn() -> None:
    """For a test that looks at a picture."""


@pytest.fixture(autouse=True)
def small_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel in place of each figure."""
    if "drawn" in request.fixturenames:
        return

    def save(figure: Figure, file: Any, **options: Any) -> None:
        Image.new("RGB", (1, 1)).save(file, format=options.get("format") or Path(file).suffix.lstrip(".") or "png")

    monkeypatch.setattr(Figure, "savefig", save)
