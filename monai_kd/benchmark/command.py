"""``python -m monai_kd benchmark``: ratios of times, measured in turn in one process."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from data_prep.disk import check_writable

from ..config.errors import one_line_errors
from ..io.atomic import write_json
from .machine import describe_machine
from .options import Options
from .row import Row
from .table import check_picture, plot_rows, reached, table

__all__ = ["GROUPS", "run_benchmark"]

logger = logging.getLogger(__name__)

# Modules of this package, each with ``rows(options)``.
GROUPS = ("training", "resources", "data", "inference", "conversion")


@one_line_errors
def run_benchmark(
    only: Sequence[str] | None = None,
    json_file: Path | None = None,
    plot_file: Path | None = None,
    repeat: int = 9,
    tiny: bool = False,
    checkpoint: Path | None = None,
    slices: Path | None = None,
    bundles: Path | None = None,
) -> int:
    """Measure, print the table, and write it as JSON and as a picture; each ratio is on stderr as soon as it is known.

    Args:
        only: names of `GROUPS`; ``None`` for all.
        json_file: for ``{"machine": …, "options": …, "rows": [{"name", "aim", "ratio", …, "reached"}]}``.
        plot_file: for a picture, see `plot_rows`.
        repeat, tiny, checkpoint, slices, bundles: see `Options`.

    Returns:
        The exit code: 0, whether the aims are reached or not; or 2 after an error on stderr.
    """
    options = Options(repeat, tiny, bundles, checkpoint, slices)
    machine = describe_machine()
    logger.info("%s, %s, %d threads", machine["name"], machine["cpu"], machine["threads"])
    for file in filter(None, (json_file, plot_file)):
        check_writable(file.absolute().parent)
    if plot_file is not None:
        check_picture(plot_file)
    rows = [row for group in only or GROUPS for row in _rows(group, options)]
    print(f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, load {machine['load']}")
    print(table(rows))
    if json_file is not None:
        found = [{**asdict(row), "reached": reached(row)} for row in rows]
        chosen = {"repeat": repeat, "tiny": tiny, "only": list(only or GROUPS)}
        write_json({"machine": machine, "options": chosen, "rows": found}, json_file)
    if plot_file is not None:
        plot_rows(rows, plot_file, f"{machine['cpu']}, {machine['threads']} threads")
    return 0


def _rows(group: str, options: Options) -> Iterator[Row]:
    if group not in GROUPS:
        raise ValueError(f"only: must be of {', '.join(GROUPS)}, got '{group}'.")
    for row in importlib.import_module(f"{__package__}.{group}").rows(options):
        # The table comes minutes later, or never when time runs out. Printed, since inference disables logging.
        print(f"{row.ratio:8.2f}  {row.name}", file=sys.stderr, flush=True)
        yield row
