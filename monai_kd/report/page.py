"""The page and the table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from .. import __version__
from ..atomic import written_whole
from .checkpoint import CheckpointFacts
from .examine import Examined, columns

__all__ = ["write_page", "write_table"]


def write_page(
    files: Sequence[Examined],
    checkpoints: Mapping[str, CheckpointFacts],
    threshold: float,
    temperature: float,
    path: str | Path,
) -> None:
    """Write one HTML file that needs no other: no script, no network.

    Args:
        files: in the order of the page.
        checkpoints: by what they do, ``"segmentation"`` and ``"classification"``.
        threshold: that made masks of probabilities.
        temperature: that the classifier's logits were divided by.
        path: the file to write.
    """
    # All text of files is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    counts = {status: sum(each.row["status"] == status for each in files) for status in ("ok", "failed", "skipped")}
    page = environment.from_string(source).render(
        files=files,
        counts=counts,
        with_tumour=sum(each.row.get("tumour") == "yes" for each in files),
        checkpoints=checkpoints,
        synthetic=[what for what, facts in checkpoints.items() if facts.synthetic],
        unknown=[what for what, facts in checkpoints.items() if facts.synthetic is None],
        threshold=threshold,
        temperature=temperature,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
    )
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def write_table(files: Sequence[Examined], class_names: Sequence[str], path: str | Path) -> None:
    """Write a row for each file, sorted by name; see `columns`."""
    # File names may hold bytes that are no text.
    how = {"newline": "", "encoding": "utf-8", "errors": "replace"}
    with written_whole(path) as temporary, open(temporary, "w", **how) as file:
        table = csv.DictWriter(file, columns(class_names))
        table.writeheader()
        table.writerows(sorted((each.row for each in files), key=lambda row: row["file"]))
