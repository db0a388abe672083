"""What lies in the folder of the outputs when a run begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.text import printable

from ..io.atomic import clear_partial, remove_earlier, write_json
from ..io.table import as_text, write_table
from .inputs import InputFiles, InputImage
from .results import REMEMBERED, UNFINISHED, named_files, remembered, result_rows

__all__ = ["claim_outputs", "unfinished_rows"]

NOT_ENDED = "the run did not come to its end"


def claim_outputs(
    inputs: InputFiles,
    table: Path,
    outputs: Callable[[InputImage], Sequence[Path]],
    others: Sequence[Path] = (),
) -> None:
    """Remove what an earlier run wrote, so that a file that fails now has no mask from then, and nothing else.

    An earlier run wrote what its table names, and what belongs to its unfinished images. So that a run that is killed
    is known by the next one, the table is written here, with all images unfinished, see `unfinished_rows`. What the
    table named for other inputs stays, and is remembered in a hidden file.

    Args:
        inputs: of the run that begins.
        table: that both runs write.
        outputs: files that may be written for one input.
        others: files that are written for all inputs together.

    Raises:
        FileExistsError: a file that would be overwritten is of no earlier run that wrote this table; nothing was
            removed but what killed processes left half written.
    """
    folder = inputs.output_dir
    for each in sorted({folder, *((folder / image.name).parent for image in inputs.images)}):
        clear_partial(each)
    try:
        rows = result_rows(table) if table.is_file() else []
    except ValueError:
        raise _somebodys([table], table) from None
    named = named_files(rows) | remembered(folder)
    unfinished = {row["file"] for row in rows if row["status"] == UNFINISHED}
    own: dict[str, Path] = {}
    foreign = [] if rows else [path for path in others if path.exists()]
    for image in inputs.images:
        for path in outputs(image):
            name = as_text(path.relative_to(folder).as_posix())
            if name in named or as_text(image.label) in unfinished:
                own[name] = path
            elif path.exists():
                foreign.append(path)
    if foreign:
        raise _somebodys(foreign, table)
    if stay := sorted(name for name in named - own.keys() if (folder / name).exists()):
        write_json(stay, folder / REMEMBERED)
    else:
        (folder / REMEMBERED).unlink(missing_ok=True)
    # The table last: what is still there is named.
    remove_earlier([*own.values(), *others, table], "run")
    write_table(unfinished_rows(inputs), ["file", "status", "reason"], table)


def unfinished_rows(inputs: InputFiles) -> list[dict[str, str]]:
    """Rows of the table of a run that has not come to its end, one for each image."""
    return [{"file": image.label, "status": UNFINISHED, "reason": NOT_ENDED} for image in inputs.images]


def _somebodys(paths: Sequence[Path], table: Path) -> FileExistsError:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return FileExistsError(
        f"output_dir: {printable(str(paths[0]))}{more} would be overwritten, and {table.name} in this folder does not "
        "say that an earlier run wrote it. Choose another output_dir, or move it."
    )
