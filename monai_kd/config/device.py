"""Names of devices, checked against those that are here."""

from __future__ import annotations

import torch

__all__ = ["available_devices", "checked_device", "default_device"]

LONGEST_NAME = 40  # of what an error repeats


def available_devices() -> list[str]:
    """Names that `checked_device` accepts: ``cpu``, ``cuda``, ``cuda:0`` …, ``mps``, as far as they are here."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def default_device() -> str:
    """``cuda`` where there is one, else ``cpu``: what the bundles choose by themselves."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(name: str | torch.device) -> str:
    """The name of a device that is here and works.

    Args:
        name: one of `available_devices`.

    Raises:
        ValueError: it is none of them, or can't be used at the moment.

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
        # CUDA's own message is followed by lines of advice to developers.
        raise ValueError(f"device {text} can't be used at the moment: {str(error).splitlines()[0]}") from error
    return text
