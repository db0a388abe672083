"""The page and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from data_prep.text import printable

from .. import __version__
from ..io.atomic import written_whole
from ..io.table import write_table as save_table
from .checkpoint import CheckpointFacts
from .examine import Examined, columns

__all__ = ["page_template", "write_page", "write_table"]


def page_template(name: str, package: str = __package__) -> Template:
    """A template of this package, or of another one that may include those of this one.

    Text is escaped for HTML, and characters that show nothing or turn the direction of writing as `printable` does.

    Args:
        name: of the file.
        package: that it lies in.
    """
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader(__package__, ".")])
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=loader,
        finalize=_shown,
    )
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    # Macros give whole lines of HTML, whose values went through here already.
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def write_page(
    files: Sequence[Examined],
    checkpoints: Mapping[str, CheckpointFacts],
    threshold: float | None,
    temperature: float,
    path: str | Path,
) -> None:
    """Write one HTML file that needs no other: no script, no network.

    Args:
        files: in the order of the page.
        checkpoints: by what they do, ``"segmentation"`` and ``"classification"``.
        threshold: that made masks of probabilities; ``None`` where each pixel has the most probable class.
        temperature: that the classifier's logits were divided by.
        path: the file to write.
    """
    counts = {status: sum(each.row["status"] == status for each in files) for status in ("ok", "failed", "skipped")}
    page = page_template("page.html.jinja").render(
        files=files,
        counts=counts,
        with_tumour=sum(each.row.get("tumour") == "yes" for each in files),
        checkpoints=checkpoints,
        threshold=threshold,
        temperature=temperature,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
    )
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def write_table(
    files: Sequence[Examined], class_names: Sequence[str], path: str | Path, mask_names: Sequence[str] = ("tumour",)
) -> None:
    """Write a row for each file, sorted by name; see `columns`."""
    rows = sorted((each.row for each in files), key=lambda row: row["file"])
    save_table(rows, columns(class_names, mask_names), path)
