"""Masks as DICOM segmentations, for a PACS and its viewers."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from pydicom import Dataset, config
from pydicom.valuerep import validate_value

from .. import __version__
from ..extras import require_extra
from ..io.atomic import atomic_write
from ..io.dicom import quietly
from .overlay import outline_colours

__all__ = ["NoSegmentation", "require_highdicom", "write_dicom_seg"]

# What a segmentation takes over from its source. DICOM wants them there, be they empty; de-identification removes some.
MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
MUST_BE_THERE = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
)
# highdicom refuses wrong dates and times, and DICOM readers wrong identifiers. What is only too long is taken over.
CHECKED = ("DA", "TM", "UI")
SEXES = ("M", "F", "O", "")
SERIES_NUMBER = 9001
DESCRIPTION = "Tumour, by a network, for research"
LONGEST_LABEL = 64  # characters, of the value representation LO
# Property types by words in the name of a class, of `pydicom.sr.codedict.codes.SCT`; all others are neoplasms. Kinds of
# tumours are not coded: DICOM has no terms for them, and what a network calls a glioma is no histology.
OTHER_TYPES = {"edema": "Edema", "oedema": "Edema", "necrosis": "Necrosis", "necrotic": "Necrosis"}


class NoSegmentation(ValueError):
    """A mask can't be written as a DICOM segmentation; the message says why."""


def require_highdicom() -> None:
    """Say how to get highdicom, when it is not installed.

    Raises:
        ImportError: it is not.
    """
    require_extra("dicom", ["highdicom"], "dicom_seg", otherwise=", or set dicom_seg to False")


def write_dicom_seg(
    masks: np.ndarray,
    sources: Sequence[Dataset],
    path: str | Path,
    algorithm: str,
    mask_names: Sequence[str] = ("tumour",),
) -> None:
    """Write masks as a binary DICOM Segmentation object that refers to the images they were made of.

    Each class is a segment, numbered from 1 and labelled with its name, in ASCII. Its property type is Neoplasm (SNOMED
    CT 108369006), or Edema or Necrosis where its name says so; its anatomic region is Brain (12738006); its recommended
    display colour is that of the overlays.

    Of the source it takes over patient and study, **with the patient's name and number**, as DICOM asks for, and its
    frame of reference; its series, time and identifiers are new. Slices without tumour are left out of it.

    Args:
        masks: (X, Y) or (X, Y, slices), 0 or 1, with at least one pixel, in the order of ``sources``; of several
            classes (C, X, Y) or (C, X, Y, slices), which may overlap.
        sources: the data sets of the slices, as `SourceImage` holds them; they are not changed.
        path: where to; written whole or not at all.
        algorithm: name of what made the masks.
        mask_names: of the classes.

    Raises:
        NoSegmentation: the masks are empty, the source lacks what a segmentation must refer to, or what would be taken
            over from it is not as DICOM wants it.
        ImportError: highdicom is not installed.
    """
    require_highdicom()
    each = masks if len(mask_names) > 1 else masks[None]
    volumes = each.reshape(*each.shape[:3], -1) > 0
    if not volumes.any():
        raise NoSegmentation("no DICOM SEG of an empty mask")
    with quietly():
        _check_sources(sources)
        slices = [_completed(each) for each in sources]
        try:
            # (slices, rows, columns, segments), of one segment without the last axis
            frames = volumes.transpose(3, 2, 1, 0).astype(np.uint8)
            frames = frames[..., 0] if len(volumes) == 1 else frames
            whole = _object_of(slices)
            segmentation = _segmentation(frames, slices if whole is None else [whole], algorithm, mask_names)
            if whole is not None:
                _refer_to_frames(segmentation, slices)
        except NoSegmentation:
            raise
        except Exception as error:
            # One strange header must not end a run over many, and the message may quote it.
            kind = type(error).__name__
            raise NoSegmentation(f"no DICOM SEG: highdicom refuses the header of the source ({kind})") from None
        if "SpecificCharacterSet" in slices[0]:
            segmentation.SpecificCharacterSet = slices[0].SpecificCharacterSet
        with atomic_write(path) as temporary:
            segmentation.save_as(temporary)


def _check_sources(slices: Sequence[Any]) -> None:
    lacking = sorted({name for each in slices for name in MUST_BE_THERE if not _is_there(each, name)})
    if lacking:
        raise NoSegmentation(f"no DICOM SEG: the source has no {', '.join(lacking)}")
    names = (*MAY_BE_EMPTY, *MUST_BE_THERE)
    wrong = sorted({name for each in slices for name in names if name in each and not _is_valid(each, name)})
    if wrong:
        raise NoSegmentation(f"no DICOM SEG: in the source, {', '.join(wrong)} is not as DICOM wants it")


def _is_there(data: Any, name: str) -> bool:
    value = data.get(name)
    try:
        return bool(value) and (name != "PixelSpacing" or all(float(number or 0) > 0 for number in value))
    except (TypeError, ValueError):  # no numbers
        return False


def _is_valid(data: Any, name: str) -> bool:
    try:
        element = data[name]
        if element.VR in CHECKED:
            validate_value(element.VR, element.value, config.RAISE)
    except Exception:  # Damaged values raise half a dozen types.
        return False
    return name != "PatientSex" or element.value in SEXES


def _completed(data: Dataset) -> Dataset:
    """With an empty value for what must be there, and is not."""
    missing = [name for name in MAY_BE_EMPTY if name not in data]
    if missing:
        data = copy.deepcopy(data)
        for name in missing:
            setattr(data, name, "")
    return data


def _object_of(slices: Sequence[Any]) -> Any:
    """The enhanced object that the frames are of, with these alone; ``None`` for slices in files of their own.

    highdicom takes no object in which several frames, such as those of two phases, are at one position.
    """
    parents = {id(each.whole): each.whole for each in slices if hasattr(each, "whole")}
    if not parents:
        return None
    if len(parents) > 1:
        raise NoSegmentation("no DICOM SEG: the frames of the volume are in several enhanced objects")
    (parent,) = parents.values()
    completed = _completed(parent)
    source = Dataset()
    source.file_meta = completed.file_meta
    for element in completed:
        source.add(element)
    # Not by assignment, which would change the elements of the object itself.
    groups = completed.PerFrameFunctionalGroupsSequence
    source.add_new("PerFrameFunctionalGroupsSequence", "SQ", [groups[each.place] for each in slices])
    source.add_new("NumberOfFrames", "IS", len(slices))
    return source


def _refer_to_frames(segmentation: Any, slices: Sequence[Any]) -> None:
    """Refer to frames by their numbers in the whole object."""
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence", ()):
            for source in derivation.SourceImageSequence:
                if "ReferencedFrameNumber" in source:
                    source.ReferencedFrameNumber = slices[int(source.ReferencedFrameNumber) - 1].place + 1


def _label(name: str) -> str:
    """A name as DICOM takes it in 64 characters (VR LO), whatever alphabet the source has."""
    plain = name.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return "".join(each if each.isprintable() else "?" for each in plain)[:LONGEST_LABEL]


def _property_type(name: str) -> str:
    words = re.findall("[a-z]+", name.lower())
    return next((OTHER_TYPES[word] for word in words if word in OTHER_TYPES), "Neoplasm")


def _segmentation(frames: np.ndarray, slices: Sequence[Any], algorithm: str, mask_names: Sequence[str]) -> Any:
    # Takes a second to import, and few runs need it.
    import highdicom as hd
    from pydicom.sr.codedict import codes

    colours = outline_colours(len(mask_names))
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=_label(name),
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=getattr(codes.SCT, _property_type(name)),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name=_label(algorithm), version=__version__, family=codes.DCM.ArtificialIntelligence
            ),
            anatomic_regions=[codes.SCT.Brain],
            display_color=hd.color.CIELabColor.from_rgb(*(round(255 * part) for part in to_rgb(colour))),
        )
        for number, (name, colour) in enumerate(zip(mask_names, colours, strict=True), 1)
    ]
    return hd.seg.Segmentation(
        source_images=slices,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        series_description=DESCRIPTION,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="monai_kd",
        manufacturer_model_name=_label(algorithm),
        software_versions=__version__,
        device_serial_number="none",
        content_label="TUMOUR",
        content_description=DESCRIPTION,
        # Own texts are ASCII, and highdicom lacks alphabets that names of patients are stored in.
        specific_character_set=None,
    )
