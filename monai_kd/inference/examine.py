"""Both networks on every file, each file read once."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from monai.utils.enums import CommonKeys as Keys

from data_prep.limits import MAX_PIXELS

from ..io.unreadable import reason_of
from . import BundlePredictor, Classifications, Findings, InputFiles, read_source
from .dataset import SOURCE
from .file_report import UNSUPPORTED
from .findings import finding_columns, masks_and_probabilities, telling_slice, told_size
from .inputs import InputImage
from .masks import mask_path, write_mask
from .overlay import overlay_figure
from .system_errors import system_reason, unwritten_reason

__all__ = ["Examined", "columns", "examine"]

DPI, JPEG_QUALITY = 90, 88


@dataclass
class Examined:
    """One file of the input, with its results or the reason why there are none.

    Attributes:
        row: of the table; `columns` names what it may hold, and ``status`` and ``reason`` are always there.
        picture: the overlay, as a ``data:`` address.
        probabilities: of the classes by name, of the slice that ``row["slice"]`` numbers.
        votes: of a volume: how many of its slices with tumour look most like each class, most frequent first.
        segmented: of a segmentation of several classes: those that were found, with their largest area.
    """

    row: dict[str, Any]
    picture: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    votes: dict[str, int] = field(default_factory=dict)
    segmented: dict[str, str] = field(default_factory=dict)

    @property
    def summary_line(self) -> str:
        """The result, in a line."""
        row = self.row
        if row["status"] != "ok":
            return f"{row['status'].upper()}, {row['reason']}"
        if row["tumour"] == "no":
            return f"no tumour found (highest probability {row['highest_probability']:.2f})"
        size = told_size(row)
        if self.segmented:
            size += f" ({', '.join(f'{name} {own}' for name, own in self.segmented.items())})"
        return f"tumour, {size}; {row['class']}, probability {row['probability']:.2f}"


def columns(class_names: Sequence[str], mask_names: Sequence[str] = ("tumour",)) -> list[str]:
    """Columns of ``report.csv``: the results of `Classifications` and `Findings` for a file, in one row.

    ``class`` is that of the classification. Where the segmentation knows several, ``segmented_class`` is its own.
    """
    names = [f"p_{name}" for name in class_names]
    elsewhere = ("file", "status", "reason", "overlay", "dicom_seg")
    found = [_renamed(name) for name in finding_columns(mask_names) if name not in elsewhere]
    return ["file", "status", "reason", "slice", "class", "probability", *names, *found]


def _renamed(column: str) -> str:
    return "segmented_class" if column == "class" else column


def examine(
    inputs: InputFiles, segment: BundlePredictor, classify: BundlePredictor, max_pixels: int = MAX_PIXELS
) -> Iterator[Examined]:
    """Read each file, segment it, write its mask, classify it, draw it.

    A volume has the class of its slice with the largest area; without any tumour, of the slice whose probability of
    tumour came highest, which is the one that is drawn.

    Args:
        inputs: the images; masks go where `mask_path` says.
        segment: predictor of a segmentation bundle.
        classify: predictor of a classification bundle.
        max_pixels: as for `read_source`.

    Yields:
        one `Examined` for each image, then one for each file of an unsupported kind.
    """
    findings = Findings(inputs, overlays=False, mask_names=segment.mask_names)
    classes = Classifications(inputs, classify.value("class_names"))
    for image in inputs.images:
        try:
            yield _examined(image, findings, classes, segment, classify, max_pixels)
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            yield Examined({"file": image.label, "status": "failed", "reason": reason})
    for file in inputs.skipped:
        yield Examined({"file": file, "status": "skipped", "reason": UNSUPPORTED})


def _examined(
    image: InputImage,
    findings: Findings,
    classes: Classifications,
    segment: BundlePredictor,
    classify: BundlePredictor,
    max_pixels: int,
) -> Examined:
    try:
        source = read_source(image.paths, max_pixels=max_pixels)
    except OSError as error:
        reason = system_reason(error, [str(path) for path in image.paths])
        return _failed(image, error, reason and f"it can't be read: {reason}")
    item, pixels, meta = {"file": image.label, SOURCE: source}, source.pixels, source.meta()
    segmented = segment(pixels, meta)
    (found,) = findings.rows_of(item, segmented)
    slices = classes.rows_of(item, classify(pixels, meta))
    try:
        write_mask(segmented[Keys.PRED], mask_path(findings.inputs, image.label), findings.mask_names)
    except OSError as error:
        return _failed(image, error, unwritten_reason(error))
    mask_names = findings.mask_names
    masks, probabilities = masks_and_probabilities(segmented, len(mask_names))
    probability = probabilities.max(axis=0)
    with_tumour = np.flatnonzero(masks.reshape(*masks.shape[:3], -1).any(axis=(0, 1, 2)))
    chosen = slices[telling_slice(found, probability)]
    votes = Counter(slices[index]["class"] for index in with_tumour) if len(slices) > 1 else {}
    shown = masks if len(masks) > 1 else masks[0]
    return Examined(
        {**chosen, **{_renamed(name): value for name, value in found.items()}},
        _embedded(overlay_figure(pixels, meta, shown, probability, mask_names=mask_names)),
        {name: chosen[f"p_{name}"] for name in classes.class_names},
        dict(sorted(votes.items(), key=lambda vote: -vote[1])),
        {name: told_size(found, f"_{name}") for name in mask_names if found.get(f"tumour_{name}") == "yes"},
    )


def _failed(image: InputImage, error: OSError, reason: str | None) -> Examined:
    """Raises the error where it is not that of one file."""
    if reason is None:
        raise error
    return Examined({"file": image.label, "status": "failed", "reason": reason})


def _embedded(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="jpeg", pil_kwargs={"quality": JPEG_QUALITY})
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
