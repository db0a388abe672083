"""Steps of a distillation: with a store, with a live teacher, without one, and as other programs run them."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import nn

from data_prep.phantom import write_phantoms

from ..distillation import Distiller, TeacherStore, fitted_projections
from ..engines import autocast
from ..losses import AttentionLoss, DeepSupervision, DiceCE, DistillationLoss, EdgeLoss, FeatureLoss, LogitKL
from ..networks import HybridUNet
from ..networks.upcat import pad_where_needed
from .compiled import compiles
from .options import Options
from .row import Row
from .timing import interleaved, several

__all__ = ["rows"]

logger = logging.getLogger(__name__)

LEVELS = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")
WEIGHTS = {"supervised": 1.0, "logit": 1.0, "feature": 0.1, "attention": 0.1, "edge": 0.1}  # of kd_plus_plus
PLAIN, STORE, LIVE, NOTEBOOK = "plain", "store", "live teacher", "loop of a notebook"
COMPILED, LIVE_COMPILED = "plain, torch.compile", "live teacher, torch.compile"
TORCHDISTILL, BY_HAND = "torchdistill", "torchdistill, bfloat16 and channels_last by hand"


def rows(options: Options) -> Iterator[Row]:
    """Ratios of the steps of `kd_plus_plus` at 128 × 128, batches of 8, with the networks of the preset ``full``.

    A step is forward, loss, backward and optimiser, of random images; with a store also its reading, and in the loop of
    a notebook the reading of its ``.mat`` files. torchdistill is an option: without it, its rows are left out, which is
    logged.

    Args:
        options: ``repeat`` and ``tiny`` are used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        setting = _Setting(options.tiny, device, Path(folder))
        ways: dict[str, Callable[[], object]] = {
            PLAIN: _ours(setting, teacher=False),
            STORE: _ours(setting, store=TeacherStore(Path(folder) / "store")),
            LIVE: _ours(setting),
            NOTEBOOK: _notebook(setting),
        }
        if importlib.util.find_spec("torchdistill") is None:
            logger.warning("torchdistill is not installed: its rows are left out (pip install --no-deps torchdistill).")
        else:
            ways |= {TORCHDISTILL: _torchdistill(setting, False), BY_HAND: _torchdistill(setting, True)}
        if device.type == "cuda":
            if not options.tiny:
                for name, teacher in ((COMPILED, False), (LIVE_COMPILED, True)):
                    way = _ours(setting, teacher, compiled=True)
                    if compiles(way):
                        ways[name] = way
            ways = {name: partial(several, way, 1, device) for name, way in ways.items()}
        times = interleaved(ways, options.repeat)
    for first, second, aim in (
        (STORE, PLAIN, "<= 1.05"),
        (LIVE, PLAIN, "<= 1.7"),
        *((TORCHDISTILL, LIVE, ">= 3"), (TORCHDISTILL, STORE, ">= 5"), (BY_HAND, LIVE, ">= 1.3")),
        *((NOTEBOOK, LIVE, ">= 3"), (NOTEBOOK, STORE, ">= 5")),
        *((PLAIN, COMPILED, "measured"), (LIVE, LIVE_COMPILED, "measured")),
    ):
        if first in times and second in times:
            pair = {name: times[name] for name in (first, second)}
            yield Row(f"training step, {first} ÷ {second}", aim, times[first] / times[second], pair)


class _Setting:
    """Networks, loss and a batch, copied for each way."""

    def __init__(self, tiny: bool, device: torch.device, folder: Path) -> None:
        torch.manual_seed(0)
        self.device, self.folder = device, folder
        self.size, self.batch = (32, 2) if tiny else (128, 8)
        student, teacher = ([4] * 6, [4] * 6) if tiny else ((32, 64, 128, 256, 512, 32), (64, 128, 256, 512, 1024, 64))
        vit: dict[str, Any] = {"vit_name": "vit_tiny_patch16_224", "vit_image_size": 32} if tiny else {}
        unet = BasicUNet(2, 3, 1, student, act=("relu", {"inplace": True}), norm="batch")
        self.student = pad_where_needed(unet)
        self.teacher = HybridUNet(features=teacher, **vit)
        self.taps = {level: level for level in LEVELS}, {level: f"unet.{level}" for level in LEVELS}
        example = torch.zeros(2, 3, self.size, self.size)
        self.projections = fitted_projections(self.student, self.teacher, *self.taps, image=example)
        self.image = torch.randn(self.batch, 3, self.size, self.size, device=device)
        self.label = (torch.rand(self.batch, 1, self.size, self.size, device=device) > 0.9).float()

    def loss(self, teacher: bool = True) -> DistillationLoss:
        terms: dict[str, nn.Module] = {
            **{"supervised": DeepSupervision(DiceCE(sigmoid=True)), "logit": LogitKL(2.0)},
            **{"feature": FeatureLoss(), "attention": AttentionLoss(), "edge": EdgeLoss()},
        }
        if not teacher:
            return DistillationLoss({"supervised": terms["supervised"]}, {"supervised": 1.0})
        return DistillationLoss(terms, WEIGHTS, copy.deepcopy(self.projections)).to(self.device)


def _ours(
    setting: _Setting, teacher: bool = True, store: TeacherStore | None = None, compiled: bool = False
) -> Callable[[], object]:
    student, loss = copy.deepcopy(setting.student), setting.loss(teacher)
    network = Distiller(student, setting.teacher, *setting.taps, store) if teacher else Distiller(student)
    network.to(setting.device).to(memory_format=torch.channels_last)
    if compiled:
        network.wrap_student(lambda student: cast(nn.Module, torch.compile(student)))
    image = setting.image.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW([*student.parameters(), *loss.parameters()], fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(setting.device, True):
            outputs = network(image)
        for name in ("student", "teacher"):
            if name in outputs:
                outputs[name] = outputs[name].float()
        loss(outputs, setting.label).total.backward()
        optimizer.step()
        if store is not None:
            store.flush()

    return step


def _hooked(network: nn.Module, paths: Mapping[str, str]) -> dict[str, torch.Tensor]:
    features: dict[str, torch.Tensor] = {}
    for name, path in paths.items():
        network.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, output, name=name: features.__setitem__(name, output)
        )
    return features


def _notebook(setting: _Setting) -> Callable[[], object]:
    """Hooks and float32, and the files are read each time."""
    raw = setting.folder / "raw"
    write_phantoms(raw, slices=setting.batch, seed=0)
    files = sorted(raw.rglob("*.mat"))[: setting.batch]
    student, teacher = copy.deepcopy(setting.student), copy.deepcopy(setting.teacher).eval()
    student, teacher, loss = student.to(setting.device), teacher.to(setting.device), setting.loss()
    features = _hooked(student, setting.taps[0]), _hooked(teacher, setting.taps[1])
    optimizer = torch.optim.AdamW([*student.parameters(), *loss.parameters()])

    def read(file: Path) -> tuple[torch.Tensor, torch.Tensor]:
        with h5py.File(file) as opened:
            pixels, mask = (np.asarray(opened["cjdata"][key], np.float32) for key in ("image", "tumorMask"))
        pixels = (pixels - pixels.min()) / (np.ptp(pixels) or 1)
        both = [torch.from_numpy(each)[None, None] for each in (pixels, mask)]
        size = [setting.size] * 2
        return F.interpolate(both[0], size, mode="bilinear").repeat(1, 3, 1, 1), F.interpolate(both[1], size)

    def step() -> None:
        images, labels = (torch.cat(each).to(setting.device) for each in zip(*map(read, files), strict=True))
        optimizer.zero_grad()
        logits = student(images)
        with torch.no_grad():
            target = teacher(images)
        outputs = {"student": logits, "teacher": target, "student_features": features[0]}
        loss({**outputs, "teacher_features": features[1]}, labels).total.backward()
        optimizer.step()

    return step


class _WithProjections(nn.Module):
    """A student that holds the projections, so that torchdistill trains them."""

    def __init__(self, network: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.network, self.projections = network, loss

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(image)
        return logits


class _Criterion(nn.Module):
    """The same terms, with what torchdistill's hooks recorded."""

    def __init__(self, loss: DistillationLoss, taps: tuple[Mapping[str, str], Mapping[str, str]]) -> None:
        super().__init__()
        self.loss, self.taps = loss, taps

    def forward(self, student: dict[str, Any], teacher: dict[str, Any], targets: torch.Tensor) -> torch.Tensor:
        outputs: dict[str, Any] = {"student": student["."]["output"].float(), "teacher": teacher["."]["output"].float()}
        outputs["student_features"] = {
            name: student[f"network.{path}"]["output"].float() for name, path in self.taps[0].items()
        }
        outputs["teacher_features"] = {name: teacher[path]["output"].float() for name, path in self.taps[1].items()}
        total: torch.Tensor = self.loss(outputs, targets).total
        return total


def _torchdistill(setting: _Setting, by_hand: bool) -> Callable[[], object]:
    from torchdistill.core.distillation import get_distillation_box

    loss = setting.loss()
    student, teacher = _WithProjections(copy.deepcopy(setting.student), loss), copy.deepcopy(setting.teacher)
    image = setting.image
    if by_hand:
        student, teacher = student.to(memory_format=torch.channels_last), teacher.to(memory_format=torch.channels_last)
        image = image.to(memory_format=torch.channels_last)
    term = {"criterion": _Criterion(loss, setting.taps), "weight": 1.0}
    config = {
        **{"num_epochs": 1, "optimizer": {"key": "AdamW", "kwargs": {"lr": 0.001}}},
        "teacher": {
            **{"requires_grad": False, "forward_proc": "forward_batch_only"},
            "forward_hook": {"output": list(setting.taps[1].values())},
        },
        "student": {
            "forward_proc": "forward_batch_only",
            "forward_hook": {"output": [f"network.{path}" for path in setting.taps[0].values()]},
        },
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"all": term}}},
    }
    box = get_distillation_box(teacher, student, {}, config, setting.device, None, False, 1)
    box.train_data_loader = [None]
    box.student_model.train()
    box.teacher_model.eval()

    def step() -> None:
        with autocast(setting.device, by_hand):
            value = box.forward_process(image, setting.label, None)
        box.post_forward_process(value)

    return step
