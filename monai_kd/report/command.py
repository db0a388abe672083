"""``python -m monai_kd report``: masks, a table and an HTML page for a folder of slices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from data_prep.lock import only_writer
from data_prep.text import printable

from ..bundle.students import Students, load_students
from ..config.errors import one_line_errors
from ..inference import InputFiles
from ..inference.earlier import claim_outputs, unfinished_rows
from ..inference.examine import Examined, examine
from ..inference.file_report import none_of
from ..inference.findings import LESIONS, write_lesions
from ..inference.masks import mask_path
from .page import write_page, write_table

__all__ = ["run_report"]


@one_line_errors
def run_report(input: Path, output_dir: Path, note: str = "", **networks: Any) -> int:
    """Segment and classify slices with both students; write masks, ``report.csv`` and ``report.html``.

    Args:
        input: file or folder.
        output_dir: folder for all output files.
        note: a sentence at the top of the page.
        networks: arguments of `load_students`.

    Returns:
        The exit code: 0; 1 if no file could be used; 2 if an argument is invalid or the folder can't be written to.
        Errors are printed on stderr.
    """
    inputs = InputFiles(input, output_dir)
    # Raises an error if there are no inputs, before the networks are loaded.
    count = len(inputs.images)
    students = load_students(**networks)
    with only_writer(inputs.output_dir, "--output_dir"):
        return _report(inputs, count, students, note)


def _report(inputs: InputFiles, count: int, students: Students, note: str) -> int:
    names, files = students.classify.value("class_names"), list[Examined]()
    table, page = inputs.output_dir / "report.csv", inputs.output_dir / "report.html"
    lesions = inputs.output_dir / LESIONS
    claim_outputs(inputs, table, lambda image: [mask_path(inputs, image.label)], [page, lesions])
    try:
        for number, file in enumerate(examine(inputs, students.segment, students.classify), 1):
            files.append(file)
            where = f"[{number}/{count}] " if number <= count else ""
            print(printable(f"{where}{file.row['file']}: {file.summary_line}"), flush=True)
    finally:
        # Also after an error, such as a full disk, for the files that are finished.
        if files:
            known = {file.row["file"] for file in files}
            left = [Examined(dict(row)) for row in unfinished_rows(inputs) if row["file"] not in known]
            write_table([*files, *left], names, table, students.segment.mask_names)
            write_lesions({file.row["file"]: file.lesions for file in files}, students.segment.mask_names, lesions)
    threshold, temperature = students.segment.threshold, students.classify.value("temperature")
    segment = students.segment
    write_page(files, students.checkpoints, threshold, temperature, page, segment.rules, segment.finds, note)
    used = sum(file.row["status"] == "ok" for file in files)
    if used == 0:
        print(f"error: {none_of(count)} be used; {page} has the reasons.", file=sys.stderr)
        return 1
    print(f"{used} of {count} files, not for diagnosis: {page}, {table}")
    return 0
