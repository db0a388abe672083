"""Tasks of MONAI Label on a slice or volume."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.enums import CommonKeys as Keys
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.transform.writer import Writer
from monailabel.utils.others.generic import device_list, device_map

from ..config import default_device
from ..inference import SourceImage, UnreadableImage, rank_classes
from ..inference.examination import examined
from ..inference.masks import mask_suffix, write_mask
from ..inference.measures import finding_of, telling_slice
from ..transforms import index_map
from .request import requested_device
from .result import is_lossy
from .served import ServedBundle

__all__ = ["ClassificationTask", "SegmentationTask"]


class _SliceTask(InferTask):
    """A task of one or two `ServedBundle`, on 2-D slices and on volumes."""

    bundles: Sequence[ServedBundle] = ()

    def __init__(self, type: InferType, labels: Mapping[str, int], description: str) -> None:
        super().__init__(type, dict(labels), 2, description, {"device": device_list()})

    def is_valid(self) -> bool:
        return all(bundle.present for bundle in self.bundles)

    def get_path(self, validate: bool = True) -> str | None:
        path = self.bundles[0].checkpoint
        return str(path) if path.is_file() or not validate else None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        begun = time.monotonic()
        try:
            device = requested_device(request.get("device"), device_map())
        except ValueError as error:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, str(error)) from error
        if not request["image"]:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, "there is no image of this name in the datastore.")
        try:
            source = self.bundles[0].read(request["image"], device)
        except UnreadableImage as error:
            # The name may hold a patient's: who asked knows which file it was.
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"the image can't be used: {error}") from error
        file, result = self.answer(source, device, request)
        return file, {**result, "label_names": self.labels, "latencies": {"total": round(time.monotonic() - begun, 3)}}

    def answer(self, source: SourceImage, device: str, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        raise NotImplementedError


class SegmentationTask(_SliceTask):
    """The mask of a slice or volume, and what it measures; with a second bundle, the class too.

    The mask comes as a file of the kind of the input, in its very geometry (0 and 1, or the indices of several classes,
    uint8): a 2-D NIfTI stays one. Where classes overlap, which labels can't, a pixel has the last of them. A request's
    ``result_extension`` asks for another kind, by MONAI Label's own writer. The numbers are those of
    `monai_kd.inference.finding_of`, under ``found`` and ``lesions``. A volume has the class of its slice with the
    largest area.

    Args:
        segment: a segmentation bundle.
        classify: a classification bundle, or ``None``.
    """

    def __init__(self, segment: ServedBundle, classify: ServedBundle | None = None) -> None:
        self.segment, self.classify = segment, classify
        self.bundles = [segment] if classify is None else [segment, classify]
        described = " ".join(bundle.description for bundle in self.bundles)
        super().__init__(InferType.SEGMENTATION, segment.labels, described)

    def answer(self, source: SourceImage, device: str, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        segmented = self.segment.predict(source, device)
        pred, names = segmented[Keys.PRED], list(self.labels)
        finding = finding_of(segmented, names, source.warnings)
        masks, probabilities, found = finding.masks, finding.probabilities, finding.found
        result: dict[str, Any] = {"found": found, "lesions": finding.lesions}
        if self.classify is not None:
            result |= _classes(self.classify, source, device, telling_slice(found, probabilities.max(axis=0)))
        indices = MetaTensor(torch.as_tensor(index_map(masks)[None]), meta=pred.meta)
        return _write(indices, source, request, self.labels), result


class ClassificationTask(_SliceTask):
    """The classes of a slice with their probabilities; of a volume, of each slice.

    ``prediction`` is as MONAI Label's classifiers give it: ``idx``, ``label`` and ``score`` of each class. No file.

    Args:
        classify: a classification bundle.
    """

    def __init__(self, classify: ServedBundle) -> None:
        self.bundles = [classify]
        names = classify.predictor(default_device()).value("class_names")
        super().__init__(InferType.CLASSIFICATION, {name: i for i, name in enumerate(names)}, classify.description)

    def answer(self, source: SourceImage, device: str, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        return None, _classes(self.bundles[0], source, device)


def _classes(classify: ServedBundle, source: SourceImage, device: str, chosen: int | None = None) -> dict[str, Any]:
    """``prediction`` of one slice; ``slices``, of all of a volume, when none is chosen among several.

    With ``warning`` and ``feature_distance`` as in ``classes.csv``; of an image that is not judged, ``prediction`` is
    empty.
    """
    names = classify.predictor(device).value("class_names")
    output = classify.predict(source, device)
    found, judged = examined(output, source.warnings)
    if not judged:
        return {"prediction": [], **found}
    probabilities = np.asarray(torch.as_tensor(output[Keys.PRED]).cpu(), dtype=float)
    slices = probabilities.reshape(len(names), -1).T
    if chosen is None and len(slices) > 1:
        return {"slices": [{"slice": i, **rank_classes(each, names)} for i, each in enumerate(slices)], **found}
    scores = slices[chosen or 0]
    prediction = [{"idx": i, "label": name, "score": round(float(scores[i]), 4)} for i, name in enumerate(names)]
    return {"prediction": sorted(prediction, key=lambda each: -each["score"]), **found}


def _write(mask: MetaTensor, source: SourceImage, request: Mapping[str, Any], labels: Mapping[str, int]) -> str:
    """A new temporary file, which MONAI Label sends and deletes."""
    path, own = str(source.paths[0]), mask_suffix(source.paths[0])
    wanted = request.get("result_extension") or own
    if is_lossy(str(wanted)):
        raise MONAILabelException(
            MONAILabelError.INVALID_INPUT, f"a mask is not written as {wanted}, which changes its values: ask for .png."
        )
    if source.kind != "picture" and wanted == own:
        handle, file = tempfile.mkstemp(suffix=own)
        os.close(handle)
        write_mask(mask, file, list(labels))
        return file
    array = np.asarray(torch.as_tensor(mask)[0].cpu())
    if source.kind != "picture":
        # With two axes MONAI Label's writer would leave the geometry out.
        array = array.reshape(*array.shape[:2], -1)
    affine = np.asarray(mask.meta["original_affine"], dtype=float)
    told = {"image_path": path, "result_extension": wanted, "result_compress": request.get("result_compress", False)}
    file, _ = Writer()({Keys.PRED: array, "pred_meta_dict": {"affine": affine}, "labels": dict(labels), **told})
    return file
