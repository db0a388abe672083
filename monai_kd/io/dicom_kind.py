"""Whether the header of a DICOM series says that it is no contrast-enhanced T1-weighted image of a head."""

from __future__ import annotations

import re
from collections.abc import MutableSequence, Sequence
from typing import Any

from .dicom_pixels import quietly
from .dicom_values import header_number

__all__ = ["kind_doubts", "other_kind"]

# A code of enhanced objects, and texts that technicians and scanners write; in capitals, with everything but letters,
# digits, + and * as a space.
DESCRIPTIONS = ("AcquisitionContrast", "SeriesDescription", "ProtocolName", "SequenceName", "ImageType")
T1 = re.compile(r"\bT1|MPRAGE|MP RAGE|SPGR|BRAVO|\bVIBE|\bTHRIVE|\bTFL\b|\bIR ?SPGR")
CONTRAST = re.compile(
    r"\+ ?C\b|\bC ?\+|\bGD\b|\bGAD|\bPOST(?!ERIOR| ?FOSSA)|CONTRAST|\bCE\b|T1 ?CE|T1 ?C\b|T1 ?KM|\bKM\b|T1 ?GD|ENHANCED"
)
OTHERS = {
    "a localiser": re.compile(r"LOCALI[SZ]ER|\bSCOUT|\bSURVEY|3 ?PLANE"),
    "a diffusion sequence": re.compile(r"\bDWI|\bDIFF|\bADC\b|\bDTI\b|\bEP2D|TRACEW"),
    "a perfusion sequence": re.compile(r"\bPERF|\bDSC\b|\bASL\b|\bR?CBF\b|\bR?CBV\b|\bPWI\b"),
    "a susceptibility-weighted sequence": re.compile(r"\bSWI|\bSWAN\b|T2 ?\*|\bT2STAR|\bHEMO"),
    "an angiographic sequence": re.compile(r"\bTOF\b|\bMRA\b|\bANGIO|\bMRV\b"),
    "a functional sequence": re.compile(r"\bBOLD\b|\bFMRI\b"),
    "a FLAIR sequence": re.compile(r"FLAIR|\bTIRM|DARK ?FLUID|FLUID ATTENUATED"),
    "a STIR sequence": re.compile(r"\bSTIR\b"),
    "a T2-weighted sequence": re.compile(r"\bT2"),
    "a proton-density sequence": re.compile(r"\bPD\b|\bPDW|PROTON DENSITY"),
}
# Codes of BodyPartExamined, PS3.16 annex L. Others, such as NECK, may show a head.
ELSEWHERE = frozenset(
    (
        *("ABDOMEN", "ANKLE", "ARM", "BLADDER", "BREAST", "CALF", "CHEST", "CLAVICLE", "CSPINE", "ELBOW", "EXTREMITY"),
        *("FEMUR", "FOOT", "FOREARM", "HAND", "HEART", "HIP", "HUMERUS", "KIDNEY", "KNEE", "LEG", "LIVER", "LSPINE"),
        *("LUNG", "PANCREAS", "PELVIS", "PROSTATE", "SHOULDER", "SPINE", "SSPINE", "THIGH", "THORAX", "THUMB", "TOE"),
        *("TSPINE", "UTERUS", "WHOLEBODY", "WRIST"),
    )
)
LONGEST_ECHO = 60.0  # ms; T1-weighted sequences have less than 30


def other_kind(data: Any) -> str:
    """Why an image is no T1-weighted one of a head, by its header; empty where nothing says so.

    The sequence is recognised by words of the first description that names one, in the order of `DESCRIPTIONS`, unless
    a word there belongs to T1-weighted sequences; by a diffusion weighting; and by an echo time that no T1-weighted
    sequence has, unless ``SeriesDescription`` says that it is one.

    Args:
        data: pydicom's data set.

    Returns:
        A sentence, with no value of the header in it.

    Example:
        >>> from pydicom import Dataset
        >>> data = Dataset()
        >>> data.SeriesDescription = "t2_tse_tra_DOE"
        >>> other_kind(data)
        'the header names a T2-weighted sequence'
        >>> data.SeriesDescription = "ax T1 post"
        >>> other_kind(data)
        ''
    """
    if re.sub("[^A-Z]", "", _text(data, "BodyPartExamined")) in ELSEWHERE:
        return "the header names another part of the body than the head"
    # What the series is called says more than its protocol, which may be that of the whole examination.
    for name in DESCRIPTIONS:
        if T1.search(text := _described(data, name)):
            break
        if named := next((other for other, words in OTHERS.items() if words.search(text)), ""):
            return f"the header names {named}"
    if header_number(data, "DiffusionBValue") > 0:
        return "the header names a diffusion sequence"
    if not T1.search(_described(data, "SeriesDescription")) and header_number(data, "EchoTime") > LONGEST_ECHO:
        return f"the header gives an echo time above {LONGEST_ECHO:g} ms, which no T1-weighted sequence has"
    return ""


def kind_doubts(data: Any) -> Sequence[str]:
    """What an image lacks to be known as contrast-enhanced, by its header, as sentences.

    A header without any description, as de-identification leaves it, says nothing and raises no doubt.
    """
    agent = _text(data, "ContrastBolusAgent").strip() or _text(data, "ContrastBolusAgentSequence").strip()
    if agent or CONTRAST.search(_described(data, *DESCRIPTIONS)) or not _text(data, "SeriesDescription").strip():
        return ()
    return ("the header names no contrast agent",)


def _described(data: Any, *names: str) -> str:
    return re.sub(r"[^A-Z0-9+*]+", " ", " ".join(_text(data, name) for name in names))


def _text(data: Any, name: str) -> str:
    """A value in capitals; empty where there is none, or it is damaged."""
    try:
        with quietly():
            value = data.get(name)
        several = isinstance(value, MutableSequence)  # as of ImageType
        return " ".join(map(str, value if several else ["" if value is None else value])).upper()
    except Exception:  # Damaged values raise half a dozen types, and must not be quoted.
        return ""
