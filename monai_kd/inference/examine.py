"""Both networks on every file, each file read once."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.utils.enums import CommonKeys as Keys
from PIL import Image

from data_prep.limits import MAX_PIXELS

from ..data import NO_TUMOUR
from ..io.unreadable import reason_of
from . import BundlePredictor, Classifications, Findings, InputFiles, read_source
from .certainty import LEAST_CERTAIN, is_uncertain
from .dataset import SOURCE
from .examination import NOT_JUDGED
from .file_report import UNSUPPORTED
from .inputs import InputImage
from .masks import mask_path, write_mask
from .measures import (
    finding_columns,
    finding_of,
    telling_slice,
    told_absence,
    told_classes,
    told_lesions,
    told_size,
)
from .overlay import marks_of, overlay_picture
from .system_errors import unread_reason, unwritten_reason
from .view import image_view

__all__ = ["Examined", "columns", "examine"]

JPEG_QUALITY = 88
DISAGREEMENT = "the networks disagree: the classification sees no tumour where the segmentation marks one"


@dataclass
class Examined:
    """One file of the input, with its results or the reason why there are none.

    Attributes:
        row: of the table; `columns` names what it may hold, and ``status`` and ``reason`` are always there.
        picture: the overlay, as a ``data:`` address.
        probabilities: of the classes by name, of the slice that ``row["slice"]`` numbers.
        votes: of a volume: how many of its slices with tumour look most like each class, most frequent first.
        segmented: of a segmentation of several classes: those that were found, with their largest area.
        lesions: the values of `monai_kd.metrics.measure_lesions`, the largest first.
        oriented: whether the file says how its slices lie; otherwise nothing is marked left or right.
        view: see `image_view`, if it was asked for.
        finds: what the segmentation marks, see `found_name`.
    """

    row: dict[str, Any]
    picture: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    votes: dict[str, int] = field(default_factory=dict)
    segmented: dict[str, str] = field(default_factory=dict)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    oriented: bool = False
    view: dict[str, Any] | None = None
    finds: str = "tumour"

    @property
    def summary_line(self) -> str:
        """The result, in a line."""
        row = self.row
        if row["status"] != "ok":
            return f"{row['status'].upper()}, {row['reason']}"
        if row["tumour"] != "yes":
            return told_absence(row, self.finds)
        size = told_size(row) + told_lesions(row)
        if self.segmented:
            size += f" ({', '.join(f'{name} {own}' for name, own in self.segmented.items())})"
        if row["class"] == NOT_JUDGED:
            return f"{self.finds}, {size}; class {NOT_JUDGED}"
        uncertain = "class uncertain, most probable " if row["uncertain"] == "yes" else ""
        return f"{self.finds}, {size}; {uncertain}{row['class']}, probability {row['probability']:.2f}"

    @property
    def class_note(self) -> str:
        """For a reader of the class: why it means nothing, or is uncertain; empty where neither is so."""
        row = self.row
        if row["tumour"] == NOT_JUDGED:
            return f"No {self.finds} was looked for, so this class means nothing."
        if row["tumour"] == "no" and NO_TUMOUR not in self.probabilities:
            return (
                f"The classifier names a kind of {self.finds} in any case. None was found, so this class means nothing."
            )
        if row["tumour"] == "no" and row["class"] == NO_TUMOUR:
            return "The classifier sees none either."
        if row["tumour"] == "no":
            return f"The segmentation found no {self.finds}, so this class means nothing."
        if row["class"] == NOT_JUDGED:
            return "See the warning: a class would mean nothing."
        if row["class"] == NO_TUMOUR:
            return "The classifier sees no tumour, the segmentation marks one."
        uncertain = row["uncertain"] == "yes"
        return f"No class has a probability of {100 * LEAST_CERTAIN:.0f} % or more." if uncertain else ""


def columns(class_names: Sequence[str], mask_names: Sequence[str] = ("tumour",)) -> list[str]:
    """Columns of ``report.csv``: the results of `Classifications` and `Findings` for a file, in one row.

    ``class`` is that of the classification, and ``uncertain`` what `is_uncertain` says of it, empty where the class is
    not judged; "no tumour" is uncertain where the segmentation marks one, and the ``warning`` says so. Where the
    segmentation knows several classes, ``segmented_class`` is its own.
    """
    names = [f"p_{name}" for name in class_names]
    elsewhere = ("file", "status", "reason", "overlay", "dicom_seg")
    found = [_renamed(name) for name in finding_columns(mask_names) if name not in elsewhere]
    return ["file", "status", "reason", "slice", "class", "probability", "uncertain", *names, *found]


def _renamed(column: str) -> str:
    return "segmented_class" if column == "class" else column


def examine(
    inputs: InputFiles,
    segment: BundlePredictor,
    classify: BundlePredictor,
    max_pixels: int = MAX_PIXELS,
    views: bool = False,
    dicom_seg: bool = False,
) -> Iterator[Examined]:
    """Read each file, segment it, write its mask, classify it, draw it.

    A volume has the class of its slice with the largest area; without any tumour, of the slice whose probability of
    tumour came highest, which is the one that is drawn.

    Args:
        inputs: the images; masks go where `mask_path` says.
        segment: predictor of a segmentation bundle.
        classify: predictor of a classification bundle.
        max_pixels: as for `read_source`.
        views: add `image_view`.
        dicom_seg: write DICOM segmentations, as `Findings` does, and add their names to the rows.

    Yields:
        one `Examined` for each image, then one for each file of an unsupported kind.
    """
    algorithm = f"monai_kd {segment.bundle.name}"
    findings = Findings(inputs, False, dicom_seg, algorithm, segment.mask_names)
    classes = Classifications(inputs, classify.value("class_names"))
    for image in inputs.images:
        try:
            yield _examined(image, findings, classes, segment, classify, max_pixels, views)
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            yield Examined({"file": image.label, "status": "failed", "reason": reason})
    for folder, why in inputs.unreadable.items():
        yield Examined({"file": folder, "status": "failed", "reason": why})
    for file in inputs.skipped:
        yield Examined({"file": file, "status": "skipped", "reason": UNSUPPORTED})


def _examined(
    image: InputImage,
    findings: Findings,
    classes: Classifications,
    segment: BundlePredictor,
    classify: BundlePredictor,
    max_pixels: int,
    views: bool,
) -> Examined:
    try:
        source = read_source(image.paths, max_pixels=max_pixels, of_head=segment.of_head)
    except OSError as error:
        return _failed(image, error, unread_reason(error, [str(path) for path in image.paths]))
    item, pixels, meta = {"file": image.label, SOURCE: source}, source.pixels, source.meta()
    segmented = segment(pixels, meta)
    finding = finding_of(segmented, findings.mask_names, source.warnings)
    found = findings.row_of(item, segmented, finding)
    slices = classes.rows_of(item, classify(pixels, meta))
    try:
        write_mask(segmented[Keys.PRED], mask_path(findings.inputs, image.label), findings.mask_names)
    except OSError as error:
        return _failed(image, error, unwritten_reason(error))
    mask_names = findings.mask_names
    masks, probability = finding.masks, finding.probabilities.max(axis=0)
    with_tumour = np.flatnonzero(masks.reshape(*masks.shape[:3], -1).any(axis=(0, 1, 2)))
    telling = telling_slice(found, probability)
    chosen = slices[telling]
    class_judged = chosen["class"] != NOT_JUDGED
    disagree = class_judged and chosen["class"] == NO_TUMOUR and found["tumour"] == "yes"
    uncertain = class_judged and (disagree or is_uncertain(chosen["probability"]))
    chosen["uncertain"] = ("yes" if uncertain else "no") if class_judged else ""
    doubts = [found.get("warning")]
    if disagree:
        doubts.append(DISAGREEMENT)
    if not class_judged and found["tumour"] != NOT_JUDGED:
        doubts.append(f"the class is not judged: {chosen['warning']}")
    if any(doubts):
        found["warning"] = "; ".join(filter(None, doubts))
    votes = Counter(slices[index]["class"] for index in with_tumour) if class_judged and len(slices) > 1 else {}
    shown = masks if len(masks) > 1 else masks[0]
    return Examined(
        {**chosen, **{_renamed(name): value for name, value in found.items()}},
        _embedded(overlay_picture(pixels, meta, shown, probability, mask_names=mask_names, marks=marks_of(source))),
        {name: chosen[f"p_{name}"] for name in classes.class_names},
        dict(sorted(votes.items(), key=lambda vote: -vote[1])),
        told_classes(found, mask_names),
        finding.lesions,
        source.orientation_known,
        image_view(source, shown, mask_names, telling) if views else None,
        findings.finds,
    )


def _failed(image: InputImage, error: OSError, reason: str | None) -> Examined:
    """Raises the error where it is not that of one file."""
    if reason is None:
        raise error
    return Examined({"file": image.label, "status": "failed", "reason": reason})


def _embedded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "jpeg", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
