"""The ``batch_augmentation`` of a config, before anything is built from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser

from ..config.definition import TARGET
from ..config.errors import cause_of
from ..extras import require_extra

__all__ = ["BATCH_AUGMENTATION", "check_batch_augmentation"]

BATCH_AUGMENTATION = "batch_augmentation"


def check_batch_augmentation(parser: ConfigParser) -> None:
    """Build the modules of ``batch_augmentation``, so that a mistake in one is an error that names it.

    MONAI's own errors name the class alone, and a disabled entry of a list is left out silently. What the modules
    must be is checked by `monai_kd.engines.BatchAugmentation`.

    Raises:
        ImportError: there are some, and kornia is not installed.
        ValueError: an entry can't be built, or is disabled; or the network takes volumes.
    """
    given = parser.get(BATCH_AUGMENTATION)
    if not given:
        return
    if parser.get("spatial_dims", 2) != 2:
        raise ValueError(
            f"{BATCH_AUGMENTATION} is for networks of slices, and this one takes patches of volumes: leave it out, and "
            "give transforms of MONAI by augmentation."
        )
    require_extra("kornia", ["kornia"], BATCH_AUGMENTATION)
    if not isinstance(given, (list, tuple)):
        _built(parser, BATCH_AUGMENTATION, BATCH_AUGMENTATION)
        return
    for number, entry in enumerate(given):
        named = str(entry.get(TARGET)) if isinstance(entry, Mapping) else str(entry)
        what = f"{BATCH_AUGMENTATION}: entry {number}, {named},"
        if _built(parser, f"{BATCH_AUGMENTATION}::{number}", what) is None:
            raise ValueError(f"{what} is disabled, or nothing: leave it out.")


def _built(parser: ConfigParser, id: str, what: str) -> Any:
    try:
        return parser.get_parsed_content(id)
    except Exception as error:
        raise ValueError(f"{what} can't be built: {cause_of(error)}") from None
