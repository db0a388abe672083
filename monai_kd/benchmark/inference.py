"""Inference: a folder with all that is read and written, and the network alone in every runtime."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.bundle import create_workflow
from monai.utils.enums import CommonKeys as Keys

from data_prep.convert import convert
from data_prep.phantom import write_phantoms

from ..bundle import checkpoint_of, find_bundle
from ..config import build_network
from ..config.device import default_device
from ..export.slices import network_inputs
from ..inference import BundlePredictor
from ..io.trained import save_trained
from ..networks import HybridUNet
from .gpus import gpu_rows
from .networks import network_rows
from .options import Options
from .row import Row
from .timing import interleaved, wait_for

__all__ = ["rows"]

SLICES, SIZE, IMAGE_SIZE = 16, 512, 256
TINY_SLICES, TINY_SIZE, TINY_IMAGE_SIZE = 4, 64, 32
FEATURES, TINY_FEATURES = [32, 64, 128, 256, 512, 32], [4, 4, 8, 8, 8, 4]
FOREGROUND = 0.02  # of the pixels, about as much as tumours cover
FOLDER_AIMS = {False: "<= 1.3", True: "<= 1.5"}


def rows(options: Options) -> Iterator[Row]:
    """The folder of seg_student's inference, divided by its network's time; then a network in every runtime.

    The folder is segmented by the weights of the bundle, where it has some: an untrained network marks many specks on a
    slice, each of which is measured as a lesion.
    """
    bundle = find_bundle("seg_student", options.bundles)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        slices = options.slices or _phantoms(Path(folder), options.tiny)
        checkpoint = options.checkpoint or _untrained(Path(folder, "student"), bundle, slices, options.tiny)
        own = None if options.checkpoint or options.tiny else checkpoint_of(bundle / "models")
        devices = dict.fromkeys(("cpu", default_device()))
        for device, amp in ((device, amp) for device in devices for amp in (False, True)):
            yield _folder_row(bundle, own or checkpoint, slices, Path(folder, "out"), amp, options.repeat, device)
        predictor = BundlePredictor(bundle, checkpoint, device="cpu")
        inputs = network_inputs(predictor, slices, SLICES)
        yield from network_rows(predictor.network, inputs, options)
        if "cuda" in devices:
            yield from gpu_rows("student", predictor.network, inputs[0], options)
            if not options.tiny:
                yield from gpu_rows("teacher", HybridUNet().eval(), inputs[0], options)


def _folder_row(
    bundle: Path, checkpoint: str | Path, slices: Path, out: Path, amp: bool, repeat: int, device: str
) -> Row:
    values: dict[str, Any] = {"input": str(slices), "output_dir": str(out), "checkpoint": str(checkpoint), "amp": amp}
    values |= {"logging_file": False, "device": device}
    workflow = create_workflow(config_file=str(bundle / "configs" / "inference.json"), workflow_type="infer", **values)
    workflow.initialize()
    value = workflow.parser.get_parsed_content
    evaluator, network, inferer, dataset = (value(name) for name in ("evaluator", "network", "inferer", "dataset"))
    batch = int(value("batch_size"))
    items = [item for item in map(dataset.__getitem__, range(len(dataset))) if Keys.IMAGE in item]
    if not items:
        raise ValueError(f"--slices: no slice in {slices} can be used.")
    images = [torch.as_tensor(item[Keys.IMAGE].as_tensor()) for item in items]
    together = [torch.stack(images[first : first + batch]).to(device) for first in range(0, len(images), batch)]

    def alone() -> None:
        with torch.no_grad():
            for inputs in together:
                inferer(inputs, network)
        wait_for(torch.device(device))

    kind = ("bfloat16" if amp else "float32") + (", on a GPU" if device == "cuda" else "")
    left_out = f" and {len(dataset) - len(items)} that can't be used" if len(items) < len(dataset) else ""
    whole, inner = f"{len(images)} files{left_out}, masks, overlays and table", "their network alone"
    times = interleaved({whole: evaluator.run, inner: alone}, repeat)
    workflow.finalize()
    aim = FOLDER_AIMS[amp] if device == "cpu" else "measured"
    return Row(f"inference of a folder ÷ network, {kind}", aim, times[whole] / times[inner], times)


def _phantoms(folder: Path, tiny: bool) -> Path:
    count, size = (TINY_SLICES, TINY_SIZE) if tiny else (SLICES, SIZE)
    write_phantoms(folder / "raw", count, size=size, workers=1, progress=False)
    convert(folder / "raw", folder / "data", split="slice", workers=1, progress=False, folds_n=2)
    return folder / "data" / "images"


def _untrained(folder: Path, bundle: Path, slices: Path, tiny: bool) -> Path:
    """A student with random weights that marks some pixels: the speed of the network is that of a trained one."""
    features, image_size = (TINY_FEATURES, TINY_IMAGE_SIZE) if tiny else (FEATURES, IMAGE_SIZE)
    definition: dict[str, Any] = {
        "_target_": "BasicUNet",
        **{"spatial_dims": 2, "in_channels": 3, "out_channels": 1, "features": features, "norm": "batch"},
        "act": ["relu", {"inplace": True}],
    }
    network = build_network(definition).eval()
    folder.mkdir()
    checkpoint = folder / "model.pt"

    settings = {"network_def": definition, "image_size": image_size}
    save_trained(network.state_dict(), checkpoint, settings)
    image = torch.as_tensor(network_inputs(BundlePredictor(bundle, checkpoint, device="cpu"), slices, 1)[0])
    with torch.no_grad():
        final: Any = network.final_conv
        final.bias -= network(image).quantile(1 - FOREGROUND)
    save_trained(network.state_dict(), checkpoint, settings)
    return checkpoint


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines of every run about every file."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
