"""Output files of the report command: an HTML page and a CSV table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from .. import __version__
from ..bundle.checkpoint import CheckpointFacts
from ..inference.examine import Examined, columns
from ..io.atomic import atomic_write
from ..io.order import natural_order
from ..io.table import write_table as save_table
from ..pages import page_template

__all__ = ["write_page", "write_table"]


def write_page(
    files: Sequence[Examined],
    checkpoints: Mapping[str, CheckpointFacts],
    threshold: float | str | None,
    temperature: float,
    path: str | Path,
    rules: Sequence[str] = (),
    finds: str = "tumour",
    note: str = "",
) -> None:
    """Write a self-contained HTML file, without scripts and without network access.

    Args:
        files: the examined files, in the order of the page.
        checkpoints: by ``"segmentation"`` and ``"classification"``.
        threshold: of the masks, or ``"expected_dice"``; ``None`` where each pixel has its most probable class.
        temperature: the classifier's logits were divided by it.
        path: the file to write.
        rules: by which slices are marked, see `BundlePredictor.rules`.
        finds: what the segmentation marks, see `found_name`.
        note: a sentence at the top of the page.
    """
    counts = {status: sum(each.row["status"] == status for each in files) for status in ("ok", "failed", "skipped")}
    page = page_template("page.html.jinja", __package__).render(
        files=files,
        counts=counts,
        marked=sum(each.row.get("tumour") == "yes" for each in files),
        checkpoints=checkpoints,
        threshold=threshold,
        temperature=temperature,
        rules=rules,
        finds=finds,
        note=note,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def write_table(
    files: Sequence[Examined], class_names: Sequence[str], path: str | Path, mask_names: Sequence[str] = ("tumour",)
) -> None:
    """Write a CSV table with a row for each file, sorted by name; see `columns`."""
    rows = sorted((each.row for each in files), key=lambda row: natural_order(row["file"]))
    save_table(rows, columns(class_names, mask_names), path)
