"""``python -m monai_kd report``: one command from slices to a page."""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.disk import check_writable
from data_prep.lock import only_writer
from data_prep.text import printable

from ..bundle.students import Students, load_students
from ..inference import InputFiles
from ..inference.earlier import clear_earlier
from ..inference.examine import Examined, examine
from ..inference.masks import mask_path
from .page import write_page, write_table

__all__ = ["run_report"]


def run_report(
    input: Path,
    output_dir: Path,
    segmentation: Path,
    classification: Path,
    threshold: float | None = None,
    temperature: str | None = None,
    device: str | None = None,
    bundles: Path | None = None,
) -> int:
    """Segment and classify slices with both students; write masks, ``report.csv`` and ``report.html``.

    Args:
        input: file or folder.
        output_dir: folder for all that is written.
        segmentation, classification: checkpoints of seg_student and cls_student.
        threshold: on the probability of tumour; ``None`` for the bundle's.
        temperature: that the classifier's logits are divided by, see `read_temperature`; ``None`` for the bundle's.
        device: ``None`` for the bundle's choice.
        bundles: folder of the bundles, see `find_bundle`.

    Returns:
        the exit code: 0; 1 when no file could be used; 2 when nothing could be begun, after saying why.
    """
    try:
        inputs = InputFiles(input, output_dir)
        # Without any input, nothing needs to be loaded.
        count = len(inputs.images)
        students = load_students(segmentation, classification, threshold, temperature, device, bundles)
        with only_writer(inputs.output_dir, "--output_dir"):
            return _report(inputs, count, students)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _report(inputs: InputFiles, count: int, students: Students) -> int:
    check_writable(inputs.output_dir)
    names, files = students.classify.value("class_names"), list[Examined]()
    table, page = inputs.output_dir / "report.csv", inputs.output_dir / "report.html"
    clear_earlier(inputs, table, lambda image: [mask_path(inputs, image.label)], [page])
    try:
        for number, file in enumerate(examine(inputs, students.segment, students.classify), 1):
            files.append(file)
            where = f"[{number}/{count}] " if number <= count else ""
            print(printable(f"{where}{file.row['file']}: {file.summary_line}"), flush=True)
    finally:
        # What was found before a full disk, say, stays known.
        if files:
            write_table(files, names, table, students.segment.mask_names)
    threshold, temperature = students.segment.threshold, students.classify.value("temperature")
    write_page(files, students.checkpoints, threshold, temperature, page)
    used = sum(file.row["status"] == "ok" for file in files)
    if used == 0:
        print(f"error: none of the {count} files could be used; {page} says why.", file=sys.stderr)
        return 1
    print(f"{used} of {count} files, not for diagnosis: {page}, {table}")
    return 0
