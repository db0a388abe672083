"""Examine uploaded files by both networks. The files are on disk only during the examination."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, BinaryIO

from ..bundle.students import Students
from ..inference import InputFiles, UnreadableImage
from ..inference.examine import examine
from ..io.dicom_frames import file_and_volume
from ..io.kinds import SUFFIXES, kind_of
from .headers import MOST_PIXELS, TooManyPixels, announced_pixels
from .temporary import upload_folder

__all__ = ["examine_uploads"]

# No .mat files: these are HDF5, which can refer to other files, and damaged ones can crash the reading process.
TAKEN = tuple(suffix for suffix, kind in SUFFIXES.items() if kind != "mat")
UNSUPPORTED = "it is none of NIfTI, PNG, JPEG, DICOM"
MAT = "this page accepts no .mat files: python -m monai_kd report does, and python -m data_prep converts them"
LONGEST_NAME = 120


@dataclass(frozen=True)
class _Name:
    """The name that the client gave to an upload; it is displayed, and never used as a path."""

    shown: str
    stem: str
    suffix: str


def _name_of(given: str) -> _Name:
    name = given.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(character for character in name if character.isprintable())
    suffix = next((suffix for suffix in TAKEN if name.lower().endswith(suffix)), "")
    stem = name[: len(name) - len(suffix)] or "unnamed"
    if len(stem) > LONGEST_NAME:
        stem = stem[:LONGEST_NAME] + "…"
    return _Name(stem + name[len(name) - len(suffix) :], stem, suffix)


def examine_uploads(uploads: Sequence[tuple[str, BinaryIO]], students: Students) -> list[dict[str, Any]]:
    """Segment and classify files; nothing of them remains on disk.

    DICOM files of one series are one volume, a multi-frame DICOM file is as many as it has stacks and phases, and every
    other file is an image of its own.

    Args:
        uploads: name and content of each.
        students: the networks.

    Returns:
        For each image its row of ``report.csv``, without the ``p_`` columns, and ``probabilities`` and ``votes`` by
        class, ``class_note`` and ``finds`` (see `Examined`), ``segmented`` (of a segmentation of several classes, the
        size of each that was found), ``lesions`` (see `monai_kd.metrics.measure_lesions`), ``oriented``, ``picture``
        (the overlay as a ``data:`` URL), ``view`` (see `image_view`) and, as ``mask`` and for DICOM with an outline as
        ``dicom_seg``, the ``name`` and ``content`` (base64) of a file. For each file that could not be used ``file``,
        ``status`` (``failed``, or ``skipped`` if its format is not supported) and ``reason``.

    Raises:
        TooManyPixels: together they have more than `MOST_PIXELS`.
    """
    with upload_folder() as folder:
        received, pixels = folder / "in", 0
        received.mkdir()
        names, answers = dict[str, _Name](), list[dict[str, Any]]()
        for number, (given, content) in enumerate(uploads):
            name = _name_of(given)
            path = received / f"upload{number:04d}{name.suffix}"
            with open(path, "xb") as file:
                shutil.copyfileobj(content, file)
            status, reason = "skipped", MAT if name.shown.lower().endswith(".mat") else UNSUPPORTED
            if kind_of(path) is not None:
                try:
                    pixels += announced_pixels(path)
                    names[path.name] = name
                    continue
                except UnreadableImage as error:
                    status, reason = "failed", str(error)
            path.unlink()
            answers.append({"file": name.shown, "status": status, "reason": reason})
        if pixels > MOST_PIXELS:
            raise TooManyPixels
        if names:
            answers += _examined(InputFiles(received, folder / "out"), names, students)
        return answers


def _examined(inputs: InputFiles, names: dict[str, _Name], students: Students) -> Iterator[dict[str, Any]]:
    dicom_seg = find_spec("highdicom") is not None
    for file in examine(inputs, students.segment, students.classify, MOST_PIXELS, views=True, dicom_seg=dicom_seg):
        paths = inputs.labelled(file.row["file"]).paths
        stored, volume = file_and_volume(paths[0])
        name = names[stored.name]
        row = {key: value for key, value in file.row.items() if not key.startswith("p_")}
        row["file"] = f"{name.shown}/{volume}" if volume else name.shown
        row["file"] += f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        for upload, each in names.items():
            row["reason"] = row["reason"].replace(upload, each.shown)
        if row["status"] == "ok":
            for key, ending in (("mask", "_mask"), ("dicom_seg", "_seg")):
                if key in row:
                    saved = inputs.output_dir / row[key]
                    row[key] = {
                        "name": f"{name.stem}{'_' * bool(volume)}{volume}{ending}{saved.name.rpartition(ending)[2]}",
                        "content": base64.b64encode(saved.read_bytes()).decode("ascii"),
                    }
            row |= {"probabilities": file.probabilities, "votes": file.votes, "segmented": file.segmented}
            row |= {
                "class_note": file.class_note,
                "picture": file.picture,
                "oriented": file.oriented,
                "view": file.view,
                "finds": file.finds,
            }
            row["lesions"] = file.lesions
        yield row
