"""The settings of a run, in ``settings.json`` beside its checkpoints."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ignite.engine import Engine, Events

from ..data import datalist_path
from ..io.atomic import clear_partial
from ..io.checksum import file_sha256
from ..io.first_process import from_first
from ..io.places import PLACES
from ..io.trained import (
    BODY_PART,
    FAMILIARITY_FILE,
    HASH,
    READER_FILE,
    TEMPERATURE_FILE,
    begin_settings,
    copy_settings,
    described_weights,
    learnt_classes,
    read_settings,
    read_trained,
)
from ..transforms import NORMALIZATION_OF_VOLUMES

__all__ = ["RunSettings"]

# Files that training writes beside settings.json, see docs/training.md, and what belongs to its weights.
_BESIDE = (TEMPERATURE_FILE, FAMILIARITY_FILE, READER_FILE)
_RUN_FILES = (
    *_BESIDE,
    "model.pt",
    "last.ckpt",
    "log.csv",
    "curves.png",
    "overlays.png",
    "confusion.png",
    "tensorboard",
)
# Settings that may change when a run is resumed, because the losses do not depend on them; `epochs`; and `amp`, which
# follows the computer unless it is given.
_FREE = frozenset(
    {"amp", "bundle_root", "epochs", "resume", "started_from", "synthetic", "val_interval", "workers", *PLACES}
)
DATA = "datalist_sha256"
# Settings that are compared value by value.
_NESTED = ("teacher", "definitions", "terms", "volumes")
# Settings that earlier versions did not have, which ran as with these values.
_BEFORE = {"labelled_share": 1, "batch_augmentation": [], "normalization": NORMALIZATION_OF_VOLUMES}
# Settings that are there only where they are used.
_OPTIONAL = ("ema", "lr_step", "negatives_sha256")
# Settings of the weights that a run starts from, which its own settings repeat.
_START = (
    "weights_sha256",
    "bundle",
    "recipe",
    "epochs",
    "learning_rate",
    "fold",
    "negative_probability",
    "labelled_share",
)

# Settings that say what goes into a network and what its outputs mean. Weights keep those that they were trained with.
_LEARNT = ("mean", "std", "multiclass", "activation", "mask_names")
_LEARNT_OF_VOLUMES = ("modalities", "orientation", "spacing", "normalization")

logger = logging.getLogger(__name__)


def _described_start(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Hash and settings of ``init_checkpoint``, if there is such a file."""
    start = settings.get("init_checkpoint")
    return described_weights(start) if start is not None and Path(start).is_file() else None


def _with_origins(settings: dict[str, Any], start: Mapping[str, Any] | None) -> dict[str, Any]:
    """With what identifies the data and the weights that a run starts from, wherever they are.

    Hashes of the data list and of that of ``negatives_dir``, whether the data are synthetic, their ``body_part``, and
    ``started_from``: the hash and some settings of ``init_checkpoint``.
    """
    found = dict(settings)
    if (data := _listed(settings.get("dataset_dir"))) is not None:
        listed = json.loads(data.read_text(encoding="utf-8"))
        found |= {DATA: file_sha256(data), "synthetic": bool(listed.get("synthetic", False))}
        found |= {BODY_PART: listed[BODY_PART]} if listed.get(BODY_PART) is not None else {}
    if (negatives := _listed(settings.get("negatives_dir"))) is not None:
        found["negatives_sha256"] = file_sha256(negatives)
    if start is not None:
        found["started_from"] = {name: start[name] for name in _START if name in start}
    return found


def _learnt(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of settings, those that weights keep."""
    # Of a segmentation, the classes of the data set are outputs only with the term `class`.
    classes = "mask_names" not in settings or "class" in (settings.get("weights") or {})
    volumes = settings.get("volumes") or {}
    return {
        **{name: settings[name] for name in (*_LEARNT, *["class_names"] * classes) if name in settings},
        "volumes": {name: volumes[name] for name in _LEARNT_OF_VOLUMES if name in volumes},
    }


def _listed(folder: str | None) -> Path | None:
    """The data list of a folder, if there is one."""
    file = None if folder is None else datalist_path(folder)
    return file if file is not None and file.is_file() else None


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any], free: frozenset[str] = _FREE) -> list[str]:
    """Settings that are not what they were. Places may have moved; the data list then identifies the data set."""
    free = free if earlier.get(DATA) is not None else free - {"dataset_dir"}
    found = []
    for name, value in now.items():
        before = earlier.get(name, _BEFORE.get(name))
        if name in free or name not in {*earlier, *_BEFORE} or (name in PLACES and before is None):
            # Places that share nothing with the run's folder are not stored.
            continue
        if name in _NESTED and isinstance(before, Mapping) and isinstance(value, Mapping):
            free_of_it = frozenset(PLACES) if name == "teacher" else frozenset()
            found += [f"{name} {each}" for each in _differences(before, value, free_of_it)]
        elif before != value:
            found.append(f"{name} was {before!r} and is {value!r}")
    return found


def _as_before(settings: Mapping[str, Any], earlier: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the names of the transforms of the augmentation, of which earlier versions had these alone."""
    transforms = (settings.get("definitions") or {}).get("augmentation")
    if "augmentation" not in earlier or not isinstance(transforms, list):
        return settings
    named = [each.get("_target_") if isinstance(each, Mapping) else each for each in transforms]
    return {**settings, "augmentation": [str(name).rpartition(".")[2] for name in named]}


class RunSettings:
    """Write ``settings.json`` when training starts; move an earlier run to a subfolder, or check the run to resume.

    A trainer that is run again for more epochs goes on with its own run, which is not moved.

    Attach it after `TrainingCheckpoint`: then nothing on disk changes before the whole run has been built and, when
    resuming, restored. So an invalid setting does not move an earlier run.

    Args:
        output_dir: folder of the run.
        settings: name to value; values that JSON does not support are written as text.
        resume: whether to resume the run in the folder. Its settings must be the same, except ``epochs``, ``amp`` and
            those that the losses do not depend on. Folders may have moved: the data set is the same if its list is.
        save: whether this process writes; with DDP, only rank 0 does.
        serving: whether ``model.pt`` of the folder may be in use, as by a server: then it is copied, not moved, and
            stays in place until it is replaced after the first validated epoch.

    Raises:
        ValueError: when training starts: the run to resume has other settings, or a ``model.pt`` that stays in the
            folder does not belong to the ``settings.json`` beside it.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any],
        resume: bool = False,
        save: bool = True,
        serving: bool = False,
    ) -> None:
        self.output_dir, self.resume, self.save = Path(output_dir).expanduser(), bool(resume), bool(save)
        self.serving = bool(serving)
        # As they are read from the file: tuples become lists, and devices text.
        plain = json.loads(json.dumps(dict(settings), default=str))
        start = _described_start(plain)
        self.settings = _with_origins(plain, start)
        # Of weights without settings, the hash alone is known.
        known = start is not None and start.keys() > {HASH}
        self.unlike_start = _differences(_learnt(start), _learnt(plain)) if start and known else []
        self.classes_left = start is not None and learnt_classes(start) and not learnt_classes(plain)

    @property
    def path(self) -> Path:
        return self.output_dir / "settings.json"

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)

    def begin(self, engine: Engine) -> None:
        if not self.resume and engine.state.epoch > 0:
            # The same trainer goes on, as in each round of federated learning: the earlier run is its own.
            return
        model = self.output_dir / "model.pt"
        goes_on = self.resume and from_first(self._goes_on)
        if self.save and not goes_on:
            if self.serving and model.is_file():
                # Raises an error if model.pt and settings.json do not match, before anything is moved.
                read_trained(model)
            self._move_earlier_run()
        if self.save and self.unlike_start:
            logger.warning(
                "init_checkpoint %s was trained otherwise: %s. Its weights fit the former only.",
                *(self.settings["init_checkpoint"], "; ".join(self.unlike_start)),
            )
        if self.save and self.classes_left:
            logger.warning(
                "init_checkpoint %s learnt classes beside its masks, and this run has no term 'class': its class head "
                "will not be used any more, since the encoder below it changes. Give the term a weight to keep it, as "
                "bundles/seg_student/configs/students/timm_lite0_classes_pretrained.json does.",
                self.settings["init_checkpoint"],
            )
        if self.save:
            clear_partial(self.output_dir)
            begin_settings(self.settings, model)
        # For `TrainingCheckpoint`, which saves weights together with their settings.
        cast(Any, engine.state).run_settings = self.settings

    def _goes_on(self) -> bool:
        """Whether the run in the folder is this one.

        Raises:
            ValueError: it is another one, which has finished an epoch.
        """
        if not self.path.is_file():
            return True
        earlier = read_settings(self.path)
        now = {**dict.fromkeys(_OPTIONAL), **_as_before(self.settings, earlier)}
        changed = _differences({**dict.fromkeys(_OPTIONAL), **earlier}, now)
        if changed and not (self.output_dir / "last.ckpt").is_file():
            # Nothing to go on with: training starts from the first epoch, as a new run.
            return False
        if changed:
            raise ValueError(
                f"resume: the run in {self.output_dir} has other settings: {'; '.join(changed)}. Restore these, or "
                "choose another output_dir for a new run."
            )
        if (before := earlier.get("amp", amp := now.get("amp"))) != amp:
            logger.warning(
                "resume: amp was %s until now and is %s from now on, so that the losses differ from those of an "
                "uninterrupted run in some digits: --amp %s for the same.",
                *(before, amp, before),
            )
        return True

    def _move_earlier_run(self) -> None:
        # An earlier run may have taken hours, so it is never overwritten.
        found = [self.output_dir / name for name in _RUN_FILES if (self.output_dir / name).exists()]
        if not any(path.name in ("model.pt", "last.ckpt") for path in found):
            return
        number = 1
        while (self.output_dir / f"earlier-{number}").exists():
            number += 1
        aside = self.output_dir / f"earlier-{number}"
        aside.mkdir()
        if self.path.is_file():
            # Copied, and first: the weights then have their settings beside them even if this is interrupted. The
            # original is replaced when the settings of the new run are written.
            copy_settings(self.path, aside / self.path.name)
        for path in found:
            if self.serving and path.name in ("model.pt", *_BESIDE):
                shutil.copy2(path, aside / path.name)
            else:
                path.rename(aside / path.name)
        logger.warning(
            "%s held an earlier run, which is now in %s. To resume a run instead, set --resume True.",
            *(self.output_dir, aside),
        )
        point = self.path.is_file() and read_settings(self.path).get("operating_point")
        lost = [
            *(["the operating point"] if point else []),
            *(name for name in _BESIDE if aside.joinpath(name).is_file()),
        ]
        if lost:
            logger.warning(
                "%s: %s of the earlier weights do not hold for the new ones: find them anew when these are trained.",
                *(self.output_dir, " and ".join(lost)),
            )
