"""The temperature of a classifier: from the command line, or from a file beside its checkpoint."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

from ..io.checksum import file_sha256
from ..io.trained import TEMPERATURE_FILE

__all__ = ["find_temperature", "read_temperature", "temperature_of"]

logger = logging.getLogger(__name__)

# Where evaluations of a run write it, relative to the checkpoint.
_PLACES = (TEMPERATURE_FILE, f"evaluation/{TEMPERATURE_FILE}")


def find_temperature(checkpoint: str | Path) -> Path | None:
    """The ``temperature.json`` beside a checkpoint, or in ``evaluation/`` beside it, if fitted to it; else ``None``.

    One that was fitted to another checkpoint, as before a further training, is not used; this is logged as a warning.
    """
    found = _found(checkpoint)
    return None if found is None else found[0]


def temperature_of(checkpoint: str | Path) -> float:
    """The temperature of `find_temperature`; 1, which changes no probability, where there is none."""
    found = _found(checkpoint)
    return 1.0 if found is None else found[1]


def _found(checkpoint: str | Path) -> tuple[Path, float] | None:
    checkpoint = Path(checkpoint).expanduser()
    for place in _PLACES:
        path = checkpoint.parent / place
        if not path.is_file() or not checkpoint.is_file():
            continue
        try:
            temperature, fitted_to = _content(path)
        except ValueError as error:
            logger.warning("%s is not used: it %s", path, error)
            continue
        if fitted_to == file_sha256(checkpoint):
            return path, temperature
        logger.warning("%s is not used: it was fitted to another checkpoint than %s.", path, checkpoint.name)
    return None


def read_temperature(given: str, checkpoint: Path) -> float:
    """The temperature given as a number, or as one that an evaluation with ``--calibrate True`` fitted.

    Args:
        given: a number, or the path of the ``temperature.json`` or of the ``metrics.json`` of that evaluation.
        checkpoint: checkpoint of the classifier, which the temperature in a file must have been fitted to. A number is
            not checked.

    Raises:
        FileNotFoundError: ``given`` is neither a number nor an existing file.
        ValueError: the file holds no fitted temperature, or that of another checkpoint.
    """
    try:
        return float(given)
    except ValueError:
        path = Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"--temperature: {given} is not a number, and there is no such file: give either.")
    try:
        temperature, fitted_to = _content(path)
    except ValueError as error:
        raise ValueError(f"--temperature: {path} {error}; evaluate with --calibrate True, or give a number.") from error
    # A missing checkpoint is an error where it is loaded.
    if checkpoint.is_file() and file_sha256(checkpoint) != fitted_to:
        raise ValueError(
            f"--temperature: {path} was fitted to another checkpoint than {checkpoint}; evaluate this checkpoint with "
            "--calibrate True, or give a number."
        )
    return temperature


def _content(path: Path) -> tuple[float, str]:
    """The temperature, and the SHA-256 of the checkpoint that it was fitted to."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # At its top, metrics.json has the temperature that the evaluation was made with, mostly 1.
        fitted = content["calibrated"] if "over_slices" in content else content
        temperature, fitted_to = float(fitted["temperature"]), str(content["checkpoint"]["sha256"])
        if not 0 < temperature < math.inf:
            raise ValueError(f"its temperature is {temperature}")
        return temperature, fitted_to
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"holds no temperature that an evaluation fitted ({error!r})") from error
