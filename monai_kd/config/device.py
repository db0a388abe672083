"""Names of devices, checked against the devices of this computer."""

from __future__ import annotations

import torch

__all__ = ["available_devices", "checked_device", "default_device"]

LONGEST_NAME = 40  # characters of a name in an error message


def available_devices() -> list[str]:
    """Names that `checked_device` accepts: of ``cpu``, ``cuda``, ``cuda:0`` … and ``mps``, those available."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def default_device() -> str:
    """``cuda`` if it is available, else ``cpu``: the default of the bundles."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(name: str | torch.device) -> str:
    """Return the name of a device after checking that it is available and works.

    Args:
        name: one of `available_devices`.

    Raises:
        ValueError: it is not available, or can't be used at the moment.

    Example:
        >>> checked_device("cpu")
        'cpu'
    """
    text, known = str(name), available_devices()
    if not isinstance(name, (str, torch.device)) or text not in known:
        shown = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
        raise ValueError(f"device must be one of {', '.join(known)}, got {shown!r}.")
    try:
        torch.zeros(1, device=text)
    except RuntimeError as error:
        # The other lines of CUDA's message are advice for developers.
        raise ValueError(f"device {text} can't be used at the moment: {str(error).splitlines()[0]}") from error
    return text
