"""The temperature of a classifier, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from ..io.checksum import file_sha256

__all__ = ["read_temperature"]


def read_temperature(given: str, checkpoint: Path) -> float:
    """The temperature given as a number, or by the ``temperature.json`` of an evaluation.

    Args:
        given: a number, or the path of a file.
        checkpoint: checkpoint of the classifier, which the temperature in a file must have been fitted to. A number is
            not checked.

    Raises:
        FileNotFoundError: ``given`` is neither a number nor an existing file.
        ValueError: the file holds no temperature, or that of another checkpoint.
    """
    try:
        return float(given)
    except ValueError:
        path = Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"--temperature: {given} is not a number, and there is no such file.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        temperature, fitted_to = float(content["temperature"]), content["checkpoint"]["sha256"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"--temperature: {path} is not the temperature.json of an evaluation with --calibrate True ({error!r})."
        ) from error
    # A missing checkpoint is an error where it is loaded.
    if checkpoint.is_file() and file_sha256(checkpoint) != fitted_to:
        raise ValueError(
            f"--temperature: {path} was fitted to another checkpoint than {checkpoint}; evaluate this checkpoint with "
            "--calibrate True, or give a number."
        )
    return temperature
