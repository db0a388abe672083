"""Backbones by their timm or torchvision name, with installed, downloaded, local or random weights."""

from __future__ import annotations

import difflib
import http.client
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import timm
import torch
import torchvision
from huggingface_hub.errors import HfHubHTTPError
from timm.models import PretrainedCfg
from torch import nn

from .efficientnet_layout import is_efficientnet_pytorch, to_timm_layout
from .installed_weights import read_checkpoint, weights_package
from .mobilenet_layout import is_torchvision_mobilenetv2, mobilenetv2_to_timm_layout
from .vgg_layout import is_torchvision_vgg, vgg_to_timm_layout

__all__ = ["classifier_of", "create_backbone"]

logger = logging.getLogger(__name__)

# Errors of a download without a connection; the HTTP client of huggingface_hub depends on its version.
_OF_THE_HUB = [base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)]
_NO_CONNECTION: tuple[type[Exception], ...] = (OSError, http.client.HTTPException, *_OF_THE_HUB)


@runtime_checkable
class _TimmClassifier(Protocol):
    """A model of timm; torchvision's models lack this method."""

    def get_classifier(self) -> nn.Module: ...


def create_backbone(
    name: str,
    pretrained: bool | str | None = False,
    num_classes: int = 0,
    image_size: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a model of timm or, where timm has none of this name, of torchvision.

    A classifier without pretrained weights is initialised near zero, so that all classes are equally probable at first.

    The classifier of a local file is used if it has ``num_classes`` outputs; otherwise the classifier starts from
    random weights, which is logged as a warning.

    Args:
        name: a model name of ``timm.list_models()``, such as ``"vit_base_patch16_224"``; or one that is only in
            ``torchvision.models.list_models()``, such as ``"shufflenet_v2_x1_0"``.
        pretrained: ``False`` or ``None`` for random weights; ``True`` for those of an installed package, see
            `weights_package`, or else the library's own, downloaded once; a path for a local ``.safetensors``, ``.pth``
            or ``.bin`` file in the library's layout. Files of EfficientNets may also have the layout of the
            EfficientNet-PyTorch package (keys that begin with ``_conv_stem``, ``_blocks``). That package pads and
            normalises as timm's ``tf_efficientnet_…`` do, which therefore give the same logits, unlike
            ``efficientnet_…``. Files of VGGs and MobileNetV2 may also have torchvision's layout.
        num_classes: outputs of the classifier; 0, for timm models only, returns pooled features (B,
            ``model.num_features``).
        image_size: side of the square input image, in pixels, for transformers that are built for one size; ignored by
            other models, which take any size.
        kwargs: passed to the model, such as ``drop_rate``.

    Raises:
        ValueError: ``name`` is in neither library, it has no published weights, ``num_classes`` of a torchvision model
            is 0, or the model has auxiliary classifiers, whose logits it also returns in training.
        FileNotFoundError: ``pretrained`` is a path and no such file exists.
        RuntimeError: the weights can't be downloaded, or don't fit the model.

    Example:
        >>> create_backbone("vit_tiny_patch16_224", image_size=32).num_features
        192
    """
    known = timm.is_model(name)
    if not known and name not in torchvision.models.list_models(module=torchvision.models):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:8]
        close = close or difflib.get_close_matches(name, torchvision.models.list_models(module=torchvision.models))
        raise ValueError(
            f"neither timm nor torchvision has a model '{name}'; models with a similar name: "
            f"{', '.join(close) or 'none'}."
        )
    if not known and name == "googlenet":
        # With its ImageNet weights it also rescales the image, which a weights file does not record.
        raise ValueError(
            "'googlenet' has auxiliary classifiers, whose outputs no loss here takes: choose another model, such as "
            "'inception_v3', which timm builds without."
        )
    if not known and num_classes < 1:
        raise ValueError(f"'{name}' is a model of torchvision, which always classifies: num_classes must be 1 or more.")
    if known and image_size is not None and published(name).fixed_input_size:
        kwargs["img_size"] = int(image_size)
    build = _timm if known else _torchvision
    if pretrained is None or pretrained is False:
        return build(name, num_classes, **kwargs)
    package = weights_package(name)
    if pretrained is True and package is not None and (installed := package.file()) is not None:
        logger.info(
            "pretrained weights of '%s': %s (%s %s, %s)",
            *(name, installed, package.name, package.version(), package.licence),
        )
        return _from_file(build, name, num_classes, installed, package.read, kwargs)
    if pretrained is True:
        if known and not published(name).has_weights:
            raise ValueError(
                f"timm publishes no weights of '{name}': give the path of a local weights file as `pretrained`, set it "
                "to false, or choose another model."
            )
        try:
            return _downloaded(name, num_classes, known, kwargs)
        except _NO_CONNECTION as error:
            install = f"install the package that has them ({package.install}), " if package else ""
            raise RuntimeError(
                f"the pretrained weights of '{name}' could not be downloaded ({type(error).__name__}). To do without a "
                f"connection, {install}give the path of a local weights file as `pretrained`, or set `pretrained` to "
                "false to start from random weights."
            ) from error
    path = Path(pretrained).expanduser()
    if str(pretrained).lower() in ("true", "false", "null", "none") and not path.is_file():
        raise ValueError(
            f"pretrained for '{name}' is the text {pretrained!r}: on the command line write True or False, "
            "with a capital."
        )
    if not path.is_file():
        raise FileNotFoundError(f"pretrained weights for '{name}': there is no file {path}.")
    return _from_file(build, name, num_classes, path, read_checkpoint, kwargs)


def classifier_of(model: nn.Module) -> nn.Linear | nn.Conv2d:
    """The last linear layer of a classifier of timm or torchvision.

    Raises:
        ValueError: the model ends in something else.
    """
    if isinstance(model, _TimmClassifier):
        last = model.get_classifier()
    else:
        # The last module may have no parameters: SqueezeNet pools the output of its classifier.
        last = [module for module in model.modules() if list(module.parameters(recurse=False))][-1]
    if not isinstance(last, (nn.Linear, nn.Conv2d)):
        raise ValueError(f"{type(model).__name__} has no single linear classifier, but {type(last).__name__}.")
    return last


def published(name: str) -> PretrainedCfg:
    """timm's configuration of the published weights of a model; its defaults for a model without any."""
    return timm.get_pretrained_cfg(name, allow_unregistered=True) or PretrainedCfg()


def _from_file(
    build: Callable[..., nn.Module],
    name: str,
    num_classes: int,
    path: Path,
    read: Callable[[Any], Mapping[str, torch.Tensor]],
    kwargs: dict[str, Any],
) -> nn.Module:
    """Build a model with the weights of a file, in any layout that is known."""
    try:
        state = read(path)
        if is_efficientnet_pytorch(state):
            state = to_timm_layout(state)
        elif build is _timm and is_torchvision_vgg(state):
            state = vgg_to_timm_layout(state)
        elif build is _timm and is_torchvision_mobilenetv2(state):
            state = mobilenetv2_to_timm_layout(state)
        return build(name, num_classes, state=state, **kwargs)
    except ImportError:
        raise
    except Exception as error:
        raise RuntimeError(f"the weights in {path} do not fit '{name}': {error}") from error


def _timm(name: str, num_classes: int, state: Mapping[str, torch.Tensor] | None = None, **kwargs: Any) -> nn.Module:
    if state is None:
        return _with_small_classifier(timm.create_model(name, num_classes=num_classes, **kwargs), num_classes)
    layers = published(name).classifier or ()
    classifiers = (layers,) if isinstance(layers, str) else tuple(layers)
    outputs = {len(state[f"{each}.weight"]) for each in classifiers if f"{each}.weight" in state}
    # timm drops the classifier when the numbers differ; by default it assumes ImageNet's classes in a file.
    in_file = outputs.pop() if outputs else -1
    overlay = {"state_dict": dict(state), "num_classes": in_file, "label_offset": 0}
    model = timm.create_model(name, pretrained=True, num_classes=num_classes, pretrained_cfg_overlay=overlay, **kwargs)
    optional = tuple(f"{each}." for each in classifiers) if in_file != num_classes else ()
    _check_complete(model, state, optional)
    _warn_dropped(name, in_file, num_classes)
    return model if in_file == num_classes else _with_small_classifier(model, num_classes)


def _torchvision(
    name: str, num_classes: int, state: Mapping[str, torch.Tensor] | None = None, **kwargs: Any
) -> nn.Module:
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
    last = classifier_of(model)
    if state is None:
        _init_small(last)
        return model
    prefix = next(key for key, module in model.named_modules() if module is last)
    in_file = len(state[f"{prefix}.weight"]) if f"{prefix}.weight" in state else -1
    if in_file != num_classes:
        _init_small(last)
        # MaxViT's has no bias.
        state = {**state, **{f"{prefix}.{key}": value for key, value in last.state_dict().items()}}
    model.load_state_dict(state, strict=True)
    _warn_dropped(name, in_file, num_classes)
    return model


def _downloaded(name: str, num_classes: int, known_to_timm: bool, kwargs: dict[str, Any]) -> nn.Module:
    if known_to_timm:
        model = timm.create_model(name, pretrained=True, num_classes=num_classes, **kwargs)
        kept = num_classes == published(name).num_classes
        return model if kept else _with_small_classifier(model, num_classes)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    return _torchvision(name, num_classes, state=weights.get_state_dict(progress=True), **kwargs)


def _with_small_classifier(model: nn.Module, num_classes: int) -> nn.Module:
    if num_classes and isinstance(model, _TimmClassifier) and isinstance(last := model.get_classifier(), nn.Linear):
        _init_small(last)
    return model


def _init_small(last: nn.Linear | nn.Conv2d) -> None:
    # timm and torchvision draw the classifier of an EfficientNet from ±1/√classes, which is meant for a thousand
    # classes: with three, the first logits are about ±5, the loss is several times that of guessing, and a teacher's
    # soft targets are far out of reach.
    nn.init.normal_(last.weight, std=0.01)
    if last.bias is not None:
        nn.init.zeros_(last.bias)


def _warn_dropped(name: str, in_file: int, num_classes: int) -> None:
    if num_classes and in_file != num_classes:
        had = "has no classifier" if in_file < 0 else f"has a classifier of {in_file} classes"
        logger.warning(
            "the weights file of '%s' %s: the classifier of %d classes starts from random weights.",
            *(name, had, num_classes),
        )


def _check_complete(model: nn.Module, given: Mapping[str, torch.Tensor], optional: tuple[str, ...]) -> None:
    """Check that a file has all weights: timm loads it non-strictly when the classifier differs."""
    missing = [
        key
        for key in model.state_dict()
        if key not in given and not key.startswith(optional or ("\0",)) and not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise ValueError(f"{len(missing)} keys are missing ({', '.join(missing[:3])}{', …' if missing[3:] else ''}).")
