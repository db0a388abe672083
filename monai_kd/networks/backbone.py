"""Backbones by their timm name, with weights from a hub, from a file, or none."""

from __future__ import annotations

from pathlib import Path

import timm
from timm.models import load_state_dict
from torch import nn

__all__ = ["create_backbone"]


def create_backbone(name: str, pretrained: bool | str = False, num_classes: int = 0, **kwargs) -> nn.Module:
    """Build a timm model, and say plainly what to do when its pretrained weights cannot be had.

    Args:
        name: a model name that ``timm.list_models()`` knows, such as ``"vit_base_patch16_224"``.
        pretrained: ``False`` for random weights; ``True`` for timm's own, downloaded once; a path for a local
            ``.safetensors``, ``.pth`` or ``.bin`` file in timm's layout.
        num_classes: outputs of the classifier; 0 for pooled features, shape (B, ``model.num_features``).
        kwargs: passed to ``timm.create_model``, such as ``img_size``.

    Raises:
        ValueError: ``name`` is unknown to timm.
        FileNotFoundError: ``pretrained`` is a path and no such file exists.
        RuntimeError: the weights can't be downloaded, or don't fit the model.

    Example:
        >>> create_backbone("vit_tiny_patch16_224", img_size=32).num_features
        192
    """
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:8]
        raise ValueError(f"timm has no model '{name}'; models with a similar name: {', '.join(close) or 'none'}.")
    if pretrained is False:
        return timm.create_model(name, num_classes=num_classes, **kwargs)
    if pretrained is not True:
        path = Path(pretrained).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"pretrained weights for '{name}': there is no file {path}.")
        kwargs["pretrained_cfg_overlay"] = {"file": str(path)}
    try:
        model = timm.create_model(name, pretrained=True, num_classes=num_classes, **kwargs)
        if pretrained is not True:
            _check_complete(model, path)
        return model
    except Exception as error:
        if pretrained is True:
            raise RuntimeError(
                f"the pretrained weights of '{name}' could not be downloaded ({type(error).__name__}). Two ways to do "
                "without a connection: give the path of a local weights file as `pretrained`, or set `pretrained` to "
                "false to start from random weights."
            ) from error
        raise RuntimeError(f"the weights in {path} do not fit '{name}': {error}") from error


def _check_complete(model: nn.Module, path: Path) -> None:
    """timm loads leniently when the classifier differs, and keeps random weights for whatever a file lacks."""
    classifiers = model.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    optional = tuple(f"{classifier}." for classifier in classifiers)
    given = load_state_dict(str(path))
    missing = [
        key
        for key in model.state_dict()
        if key not in given and not key.startswith(optional) and not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise ValueError(f"{len(missing)} keys are missing ({', '.join(missing[:3])}{', …' if missing[3:] else ''}).")
