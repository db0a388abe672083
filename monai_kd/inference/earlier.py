"""What an earlier run wrote into the folder of the outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from ..io.atomic import clear_partial, remove_earlier
from ..io.table import as_text, read_table
from .inputs import InputFiles, InputImage

__all__ = ["clear_earlier"]

logger = logging.getLogger(__name__)


def clear_earlier(
    inputs: InputFiles,
    table: Path,
    outputs: Callable[[InputImage], Sequence[Path]],
    others: Sequence[Path] = (),
) -> None:
    """Remove what an earlier run wrote, so that a file that fails now has no mask from then.

    Of the files for single inputs only those go that the earlier table names: others may be somebody's own.

    Args:
        inputs: of the run that begins.
        table: that both runs write.
        outputs: files that may be written for one input.
        others: files that are written for all inputs together.
    """
    folder = inputs.output_dir
    for each in sorted({folder, *((folder / image.name).parent for image in inputs.images)}):
        clear_partial(each)
    try:
        rows = read_table(table) if table.is_file() else []
    except ValueError as error:
        logger.warning("%s", error)
        rows = []
    named = {cell for row in rows for cell in row.values()}
    paths = [path for image in inputs.images for path in outputs(image)]
    own = [path for path in paths if as_text(path.relative_to(folder).as_posix()) in named]
    # The table last: what is still there is named.
    remove_earlier([*own, *others, table], "run")
