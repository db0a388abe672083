"""Enhanced multi-frame DICOM objects, taken apart into one data set for each frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag

from .unreadable import UnreadableImage

__all__ = ["PIXELS", "chosen_volume", "file_and_volume", "frames_of", "is_enhanced", "volumes_of"]

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_ECHO = ("MREchoSequence", "EffectiveEchoTime")
_B_VALUE = ("MRDiffusionSequence", "DiffusionBValue")
_MEASURES, _VALUES = "PixelMeasuresSequence", "PixelValueTransformationSequence"
# Of a frame: the attribute of a single slice, and where the functional groups have it (PS3.3 C.7.6.16, C.8.13.5).
_OF_A_SLICE: dict[str, tuple[str, ...]] = {
    "ImagePositionPatient": ("PlanePositionSequence", "ImagePositionPatient"),
    "ImageOrientationPatient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    **{name: (_MEASURES, name) for name in ("PixelSpacing", "SpacingBetweenSlices", "SliceThickness")},
    **{name: (_VALUES, name) for name in ("RescaleSlope", "RescaleIntercept")},
    # By which `dicom_kind` knows the sequence.
    "EchoTime": _ECHO,
    "DiffusionBValue": _B_VALUE,
    "AcquisitionContrast": ("MRImageFrameTypeSequence", "AcquisitionContrast"),
}
# What may tell the volumes of an object apart, in the order in which it names them.
_APART: dict[str, tuple[str, ...]] = {
    "stack": ("FrameContentSequence", "StackID"),
    "phase": ("FrameContentSequence", "TemporalPositionIndex"),
    "trigger": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "echo": _ECHO,
    "b-value": _B_VALUE,
    "direction": ("MRDiffusionSequence", "DiffusionGradientDirectionSequence", "DiffusionGradientOrientation"),
    "component": ("MRImageFrameTypeSequence", "ComplexImageComponent"),
}
_DIGITS = 3  # of direction cosines that tell stacks apart where they have no number


def file_and_volume(path: str | Path) -> tuple[Path, str]:
    """The file of a path, and the volume in it that the path names, if any.

    A volume of an object that holds several is named like a file in a folder, ``exam.dcm/phase-2``: no file system has
    files below a file.

    Example:
        >>> file_and_volume("/no/such/exam.dcm")
        (PosixPath('/no/such/exam.dcm'), '')
    """
    path = Path(path)
    return (path.parent, path.name) if path.parent.is_file() else (path, "")


def is_enhanced(data: Any) -> bool:
    """Whether the header has functional groups, where enhanced objects keep the geometry of their frames."""
    return SHARED in data or PER_FRAME in data


def frames_of(data: Any) -> list[Any]:
    """One data set for each frame, with the attributes of a single slice and no pixels.

    Those of ``data`` that are no functional groups are shared, not copied. Each has the attributes ``whole``, which is
    ``data``, and ``place``, its index in ``data.pixel_array``.

    Raises:
        UnreadableImage: the functional groups are not those of the frames.
        Exception: of many types, from pydicom, when the header is damaged.
    """
    own, count = data.get(PER_FRAME) or [], int(data.get("NumberOfFrames", 1) or 1)
    if len(own) != count:
        raise UnreadableImage(
            f"{data.source_name} has {count} frames and functional groups of {len(own)}, where their positions should "
            "be: export it as one file per slice"
        )
    left_out = {Tag(name) for name in (*PIXELS, SHARED, PER_FRAME, "NumberOfFrames")}
    common = [element for element in data if element.tag not in left_out]
    shared = (data.get(SHARED) or [Dataset()])[0]
    frames = []
    for index, groups in enumerate(own):
        frame: Any = Dataset()
        for element in common:
            frame.add(element)
        for name, path in _OF_A_SLICE.items():
            value = _value((groups, shared), path)
            if value is not None:
                # Not by assignment, which would change an element that all frames share.
                frame.add_new(name, dictionary_VR(path[-1]), value)
        frame.file_meta, frame.source_name = data.file_meta, data.source_name
        frame.whole, frame.place = data, index
        frame.apart = {name: _value((groups, shared), path) for name, path in _APART.items()}
        if frame.apart["stack"] is None:
            frame.apart["stack"] = _rounded(frame.get("ImageOrientationPatient"))
        frames.append(frame)
    return frames


def volumes_of(frames: Sequence[Any]) -> dict[str, list[Any]]:
    """The frames of each volume, by names such as ``"stack-1_phase-2"``; of a single one, by an empty name.

    Frames of one stack and phase are one volume, of one trigger delay, echo, diffusion weighting and complex component
    too where these differ. A name has what differs only, numbered from 1 by its value.
    """
    numbers: dict[str, Mapping[Any, int]] = {}
    for name in _APART:
        values = dict.fromkeys(_plain(frame.apart[name]) for frame in frames)
        if len(values) > 1:
            order: Callable[[Any], Any] | None = None if all(isinstance(v, float) for v in values) else lambda _: 0
            numbers[name] = {value: number for number, value in enumerate(sorted(values, key=order), 1)}
    volumes: dict[tuple[int, ...], list[Any]] = defaultdict(list)
    for frame in frames:
        volumes[tuple(each[_plain(frame.apart[name])] for name, each in numbers.items())].append(frame)
    return {
        "_".join(f"{name}-{number}" for name, number in zip(numbers, place, strict=True)): volumes[place]
        for place in sorted(volumes)
    }


def chosen_volume(frames: Sequence[Any], volume: str) -> list[Any]:
    """The frames of one volume of an object.

    Args:
        frames: of the object.
        volume: one of `volumes_of`; empty where there is one only.

    Raises:
        UnreadableImage: there is no such volume, or several and none is named.
    """
    volumes = volumes_of(frames)
    if volume in volumes:
        return volumes[volume]
    name = frames[0].source_name
    if not volume:
        raise UnreadableImage(
            f"{name} holds {len(volumes)} volumes, {', '.join(list(volumes)[:4])}{' …' if len(volumes) > 4 else ''}: "
            f"name one of them as if it were in a folder, {name}/{next(iter(volumes))}"
        )
    raise UnreadableImage(f"{name} holds no volume {volume}")


def _value(groups: Sequence[Any], path: Sequence[str]) -> Any:
    """The value of the first of the functional groups that has it: a frame's own come before those of all frames."""
    for each in groups:
        found = each
        for name in path[:-1]:
            items = found.get(name)
            found = items[0] if items else Dataset()
        value = found.get(path[-1])
        if value not in (None, ""):
            return value
    return None


def _rounded(cosines: Any) -> Any:
    return None if not cosines else tuple(float(np.round(float(value), _DIGITS)) + 0.0 for value in cosines)


def _plain(value: Any) -> Any:
    """A value that can be a key: a number, a tuple of numbers, or text."""
    if value is None or isinstance(value, tuple):
        return value
    if isinstance(value, (str, bytes)):
        return str(value)
    try:
        return tuple(map(float, value)) if hasattr(value, "__iter__") else float(value)
    except (TypeError, ValueError):
        return str(value)
