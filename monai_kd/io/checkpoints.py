"""Read and write weights: loaded strictly and without running code, saved atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .atomic import atomic_write

__all__ = ["check_checkpoint", "load_weights", "read_checkpoint", "save_checkpoint"]


def check_checkpoint(path: Path) -> None:
    """Check that a file of weights exists.

    Raises:
        FileNotFoundError: it does not.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}; train first, or give the right path.")


def save_checkpoint(content: Any, path: str | Path) -> None:
    """``torch.save``, atomically: a killed run leaves either the old file or the new one."""
    with atomic_write(path) as temporary:
        torch.save(content, temporary)


def read_checkpoint(path: str | Path, map_location: torch.device | str = "cpu") -> Any:
    """``torch.load`` with ``weights_only=True``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a checkpoint, or holds more than tensors and plain values.
    """
    path = Path(path).expanduser()
    check_checkpoint(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        # Torch's own message advises weights_only=False, which runs any code in the file.
        raise ValueError(
            f"{path} can't be read as a checkpoint of tensors ({type(error).__name__}): it is damaged, is another kind "
            "of file, or holds other objects, which are not loaded."
        ) from error


def _prefix(own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """What stands before each key of ``own`` in ``state``; empty where that is not the difference."""
    first, given = (str(next(iter(keys), "")) for keys in (own, state))
    prefix = given.removesuffix(first)
    return prefix if prefix != given and {f"{prefix}{key}" for key in own} == set(state) else ""


def _instead(content: Any) -> str:
    """What a file holds in place of a bare state dict, and what to do."""
    if not isinstance(content, dict):
        return f", but a {type(content).__name__}."
    inner = [str(key) for key, value in content.items() if isinstance(value, dict) and _is_bare(value)]
    keys = f": its keys are {', '.join(map(str, content))}"
    if "epoch" in content or not inner:
        return f"{keys}. Of a training run, that is model.pt, not last.ckpt."
    return (
        f"{keys}, of which {' and '.join(inner)} holds tensors. Save the weights alone: "
        f"torch.save(torch.load(file)['{inner[0]}'], new_file)."
    )


def _is_bare(state: dict[Any, Any]) -> bool:
    return bool(state) and all(isinstance(value, torch.Tensor) for value in state.values())


def load_weights(network: nn.Module, path: str | Path, map_location: torch.device | str = "cpu") -> nn.Module:
    """Load a bare state dict strictly into ``network``, and return the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no state dict of this network; the message counts the keys that are missing, unknown or
            of another shape.
    """
    state = read_checkpoint(path, map_location)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} is no bare state dict (name to tensor){_instead(state)}")
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or unknown or misshapen:
        found = [
            f"{len(keys)} {what} ({', '.join(map(str, keys[:3]))}{', …' if len(keys) > 3 else ''})"
            for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
            if keys
        ]
        remedy = "Give the checkpoint of this network, or the widths it was trained with."
        if prefix := _prefix(own, state):
            remedy = (
                f"It is this network within another one, such as that of DDP or torch.compile: each key begins with "
                f"'{prefix}'. Save the state dict of the inner one, or take the beginning off."
            )
        raise ValueError(f"{path} does not fit {type(network).__name__}: keys {'; '.join(found)}. {remedy}")
    network.load_state_dict(state, strict=True)
    return network
