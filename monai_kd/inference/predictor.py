"""A bundle's inference.json as a function in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged
from monai.utils.enums import CommonKeys as Keys

from ..config import cause_of, check_overrides, check_settings, checked_device, literal
from ..io.checkpoints import check_checkpoint, load_weights
from ..io.trained import check_of_slices, is_of_head
from .measures import found_name
from .own_classes import OwnClasses
from .preparation import Preparation
from .presence import JudgePresenced
from .second_reader import SecondReader
from .thin_marks import DropThinMarksd

__all__ = ["BundlePredictor"]


class BundlePredictor:
    """The pipeline of ``<bundle>/configs/inference.json`` on images that were read before; nothing is written.

    Transforms, network and inferer are those of the config, so the results are those of ``monai.bundle run inferring``.

    Args:
        bundle: folder that holds ``configs/``.
        checkpoint: weights of the bundle's network, loaded strictly; ``settings.json`` beside it gives widths and size.
        over: names of other configs of the bundle, or absolute paths, which are laid over it, such as
            ``["volumes_inference.json"]`` for networks of volumes.
        overrides: other values of the config by their ids: ``threshold=0.3``, ``device="cpu"``. Unlike those of the
            command line they are values, never expressions, references or components: ``"@x"`` is a text of two
            characters, see `monai_kd.config.literal`.

    Raises:
        FileNotFoundError: there is no such config or checkpoint.
        TypeError: an override holds an object that is no value of a config.
        ValueError: the checkpoint does not fit the network, or is of volumes where the configs are of slices, an
            override names nothing in the config or has a value that is not allowed, the device is not here, or the
            config does not begin with loading the image.

    Example::

        segment = BundlePredictor("bundles/seg_student", "runs/student/model.pt", threshold=0.3)
        mask = segment(*read_image("slice.dcm"))["pred"]
    """

    def __init__(self, bundle: str | Path, checkpoint: str | Path, over: Sequence[str] = (), **overrides: Any) -> None:
        self.bundle, self.checkpoint = Path(bundle).expanduser().resolve(), Path(checkpoint).expanduser()
        config_file, *more = (self.bundle / "configs" / name for name in ("inference.json", *over))
        if absent := [file for file in (config_file, *more) if not file.is_file()]:
            raise FileNotFoundError(f"bundle: there is no {absent[0]}.")
        # Before the config warns that the weights are random.
        check_checkpoint(self.checkpoint)
        self._parser = ConfigParser()
        self._parser.read_config([str(file) for file in (config_file, *more)])
        check_overrides(overrides, self._parser, config_file)
        if "device" in overrides:
            overrides["device"] = checked_device(overrides["device"])
        given = {"bundle_root": self.bundle, "checkpoint": self.checkpoint, **overrides}
        self._parser.update({name: literal(value) for name, value in given.items()})
        if "trained" in self._parser and "volumes" not in self._parser:
            check_of_slices(self.value("trained"), self.checkpoint)
        check_settings(self.value("settings"))
        self.network = load_weights(self.value("network"), self.checkpoint).eval().requires_grad_(False)
        self.device = torch.device(self.value("device"))
        self._inferer = self.value("inferer")
        preprocessing, after = self.value("preprocessing"), self.value("postprocessing").transforms
        try:
            self._prepare = Preparation(preprocessing)
        except ValueError as error:
            raise ValueError(f"{config_file}: {error}") from None
        self._after = [transform for transform in after if not isinstance(transform, SaveImaged)]

    def value(self, name: str) -> Any:
        """The value of the config under an id, with references and expressions resolved.

        Raises:
            ValueError, OSError, ImportError: it can't be resolved; the first cause.
        """
        try:
            return self._parser.get_parsed_content(name)
        except RuntimeError as error:
            # MONAI wraps whatever an expression or a constructor raises.
            cause = cause_of(error)
            if isinstance(cause, (ValueError, OSError, ImportError)):
                raise cause from None
            raise

    @property
    def mask_names(self) -> list[str]:
        """Of a segmentation: the names of the classes that its masks are of."""
        return list(self.value("trained")["mask_names"])

    @property
    def finds(self) -> str:
        """Of a segmentation: what lines of text call that which it marks."""
        return found_name(self.mask_names)

    @property
    def of_head(self) -> bool:
        """Whether images are read and judged as those of a head, see `monai_kd.inference.read_source`."""
        return is_of_head(self.value("trained"))

    @property
    def threshold(self) -> float | str | None:
        """Of a segmentation: on the probability, or ``"expected_dice"``.

        ``None`` where each pixel has the most probable of several classes.
        """
        return None if self.value("multiclass") else self.value("threshold")

    @property
    def rules(self) -> list[str]:
        """Of a segmentation: in words, the rules by which slices are marked, beside the threshold."""
        return [
            str(step) for step in self._after if isinstance(step, (JudgePresenced, DropThinMarksd)) and step.decides
        ]

    @property
    def reader(self) -> SecondReader | OwnClasses | None:
        """Of a segmentation: the classifier, or its own classes, that are asked about presence, too."""
        return next((step.reader for step in self._after if isinstance(step, JudgePresenced)), None)

    def __call__(self, image: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Predict one slice or volume.

        Args:
            image: (X, Y) or (X, Y, slices), as `read_image` gives it, or (C, X, Y, Z) of `read_volume`, for a network
                of volumes; it is not changed.
            meta: its metadata.

        Returns:
            The output of the post-processing. Segmentation: ``pred``, (1, X, Y) or (1, X, Y, slices), 0 or 1 as uint8,
            and ``probability`` of the same shape, both in the geometry of the file; of several classes ``pred`` holds
            their indices and ``probability`` has a channel for the background and each class, or both have a channel
            for each class, where classes may overlap: see `separate_masks` and `foreground_probabilities`.
            Classification: ``pred``, probabilities (C,) or (C, slices). And ``image``, as the network got it.

        Raises:
            ValueError: the network's logits are not finite.
        """
        name = str(meta.get("filename_or_obj", "image"))
        data = self._prepare({Keys.IMAGE: name}, image, meta)
        with torch.no_grad():
            data[Keys.PRED] = self._inferer(data[Keys.IMAGE][None].to(self.device), self.network)[0]
            for transform in self._after:
                data = transform(data)
        return data
