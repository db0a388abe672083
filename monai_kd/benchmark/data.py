"""What slices and outputs of a teacher take on disk, and how long prepared slices take to be there again."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import BasicUNet

from data_prep.convert import convert
from data_prep.phantom import write_phantoms

from ..data import SliceDataset, load_fold, mask_value
from ..distillation import Distiller, TeacherStore, rehearse
from ..losses import DistillationLoss, FeatureLoss, LogitKL, MultiScaleFusionLoss, Projections
from ..networks import HybridUNet
from ..transforms import slice_preprocessing
from .options import Options
from .row import Row
from .timing import interleaved

__all__ = ["rows"]

SLICES, SIZE, IMAGE_SIZE = 64, 512, 256
TINY_SLICES, TINY_SIZE, TINY_IMAGE_SIZE = 4, 64, 32
LEVELS = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")
FULL, POOLED, LOGITS = "all features", "pooled features", "logits"
KB = 1000


def rows(options: Options) -> Iterator[Row]:
    """The start of a run over slices that were prepared before; sizes of the cache and of a store of a teacher.

    Slices are phantoms of 512 × 512 with their masks, prepared at 256 × 256; a store holds each as it is and mirrored.
    The teacher is that of the preset ``full``, with random weights.
    """
    count, size, image_size = (TINY_SLICES, TINY_SIZE, TINY_IMAGE_SIZE) if options.tiny else (SLICES, SIZE, IMAGE_SIZE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_phantoms(folder / "raw", count, size=size, progress=False)
        convert(folder / "raw", folder / "data", split="slice", progress=False, folds_n=2)
        yield from _cache_rows(folder, image_size, options.repeat)
        yield from _store_rows(folder / "stores", image_size, options.tiny)


def _cache_rows(folder: Path, image_size: int, repeat: int) -> Iterator[Row]:
    data = folder / "data"
    entries = load_fold(data, 0, "all")
    numbers = itertools.count()

    def prepared(cache: Path) -> SliceDataset:
        transform = slice_preprocessing(
            image_size=image_size, label=True, mask_value=mask_value(data), track_meta=False, single_slices=True
        )
        return SliceDataset(entries, transform, cache_dir=cache, progress=False)

    warm = folder / "warm"
    item = prepared(warm)[0]
    again, first = f"{len(entries)} slices, prepared before", f"{len(entries)} slices, for the first time"
    times = interleaved(
        {first: lambda: prepared(folder / f"cold{next(numbers)}"), again: lambda: prepared(warm)}, repeat
    )
    # 41 s of 2,454 slices before, and 10 s the second time.
    name = "start of a run: slices for the first time ÷ prepared before"
    yield Row(name, ">= 4.1", times[first] / times[again], times)
    sizes = {
        "three channels in float32, and the mask": sum(item[key].nbytes for key in ("image", "label")) / KB,
        "in the cache": _kilobytes(warm) / len(entries),
    }
    whole, kept = sizes.values()
    # 0.2 MB of 1.05.
    yield Row("a slice as a network gets it ÷ in the cache", ">= 5.25", whole / kept, sizes, "kB")


def _store_rows(folder: Path, image_size: int, tiny: bool) -> Iterator[Row]:
    widths = [4] * 6 if tiny else [32, 64, 128, 256, 512, 32]
    small: dict[str, Any] = {"features": widths, "vit_name": "vit_tiny_patch16_224", "vit_image_size": 32}
    torch.manual_seed(0)
    student = BasicUNet(2, 3, 1, widths, act=("relu", {"inplace": True}), norm="batch")
    teacher = HybridUNet(**small) if tiny else HybridUNet()
    taps = {level: level for level in LEVELS}, {level: f"unet.{level}" for level in LEVELS}
    image = torch.randn(1, 3, image_size, image_size)
    shapes = rehearse(student, teacher, *taps, image=image)
    sizes = {}
    for name, terms in (
        (LOGITS, {"logit": LogitKL()}),
        (POOLED, {"logit": LogitKL(), "pooled_feature": MultiScaleFusionLoss()}),
        (FULL, {"logit": LogitKL(), "feature": FeatureLoss()}),
    ):
        projections = Projections.fitted(shapes.student_shapes, shapes.teacher_shapes()) if len(terms) > 1 else None
        loss = DistillationLoss(terms, dict.fromkeys(terms, 1.0), projections)
        pooled = loss.feature_sizes(shapes.student_shapes, shapes.teacher_shapes())
        store = TeacherStore(folder / name.replace(" ", "_"))
        distiller = Distiller(student, teacher, *(taps if loss.needs_features else ({}, {})), store, None, pooled)
        distiller.teach(torch.cat([image, image.flip(-1)]))
        store.flush()
        sizes[name] = _kilobytes(store.folder)
    for name in (POOLED, LOGITS):
        pair = {each: sizes[each] for each in (FULL, name)}
        # 0.5 MB of 31.7.
        yield Row(
            f"store of a slice and its mirror image: {FULL} ÷ {name}", ">= 63", sizes[FULL] / sizes[name], pair, "kB"
        )


def _kilobytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / KB
