"""A student in every runtime and precision that this machine has, one slice at a time."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..engines import autocast
from ..export.int8 import quantise
from ..export.network_file import openvino_network
from ..export.onnx_file import write_onnx
from .compiled import compiles
from .options import Options
from .row import Row
from .timing import interleaved, several

__all__ = ["network_rows"]

logger = logging.getLogger(__name__)

EAGER = "float32, eager"
# Below one measurement of many runs: one takes milliseconds.
RUNS = 5
AIMS = {"bfloat16 autocast": ">= 5", "OpenVINO bfloat16": ">= 9", "OpenVINO int8": ">= 14"}


def network_rows(network: nn.Module, inputs: Sequence[np.ndarray], options: Options) -> Iterator[Row]:
    """Float32 in torch divided by every other way, on the CPU with as many threads as torch has.

    Args:
        network: the student, channels last, in evaluation mode.
        inputs: (1, 3, H, W) each: the first is measured, all calibrate int8.
        options: of the benchmark.
    """
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        ways = _torch_ways(network, inputs[0], options) | _exported_ways(network, inputs, Path(folder))
        repeated = {name: partial(several, way, RUNS, torch.device("cpu")) for name, way in ways.items()}
        times = interleaved(repeated, options.repeat)
    times = {name: time / RUNS for name, time in times.items()}
    for name in ways:
        if name != EAGER:
            found = {EAGER: times[EAGER], name: times[name]}
            yield Row(
                f"student, one slice: {EAGER} ÷ {name}", AIMS.get(name, "measured"), found[EAGER] / found[name], found
            )


def _torch_ways(network: nn.Module, image: np.ndarray, options: Options) -> dict[str, Callable[[], object]]:
    tensor = torch.as_tensor(image).to(memory_format=torch.channels_last)

    def mixed(module: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        with autocast("cpu", True):
            return module(tensor)

    ways: dict[str, Callable[[], object]] = {
        EAGER: lambda: network(tensor),
        "bfloat16 autocast": lambda: mixed(network),
    }
    if not options.tiny:
        compiled = torch.compile(network)
        if compiles(lambda: mixed(compiled)):
            ways["torch.compile, bfloat16"] = lambda: mixed(compiled)
    return ways


def _exported_ways(network: nn.Module, inputs: Sequence[np.ndarray], folder: Path) -> dict[str, Callable[[], object]]:
    wanted = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
    absent = [name for name in wanted if importlib.util.find_spec(name) is None]
    if absent:
        logger.warning("%s not installed: networks that need them are left out.", ", ".join(absent))
    if {"onnx", "onnxscript"} & set(absent):
        return {}
    exact, small = folder / "model.onnx", folder / "model_int8.onnx"
    with torch.inference_mode(False):
        write_onnx(network, inputs[0].shape[1:], exact)
    if "nncf" not in absent:
        quantise(exact, small, inputs)
    ways: dict[str, Callable[[], object]] = {}
    models = {"float32": exact, **({"int8": small} if small.is_file() else {})}
    for name, model in models.items():
        if "onnxruntime" not in absent:
            ways[f"onnxruntime {name}"] = _onnxruntime(model, inputs[0])
        if "openvino" not in absent:
            ways[f"OpenVINO {name}"] = _openvino(model, inputs[0], name)
    if "openvino" not in absent:
        ways["OpenVINO bfloat16"] = _openvino(exact, inputs[0], "bfloat16")
    return ways


def _onnxruntime(model: Path, image: np.ndarray) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})


def _openvino(model: Path, image: np.ndarray, precision: str) -> Callable[[], object]:
    compiled = openvino_network(model, precision, INFERENCE_NUM_THREADS=torch.get_num_threads())
    return lambda: compiled(image)
