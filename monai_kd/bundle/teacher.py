"""The teacher of a distillation: loaded from its checkpoint, or trained first by its own bundle."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from ..config import build_network, literal
from ..data import class_names
from ..io import load_weights, read_checkpoint
from ..io.folders import same_folder
from ..networks import LateFusionClassifier
from .processes import in_processes
from .settings import training_settings
from .trained import trained_settings
from .workflow import Workflow

__all__ = ["Teacher"]

logger = logging.getLogger(__name__)

# What a student's settings.json keeps of its teacher.
_KEPT = ("dataset_dir", "fold", "leave_out", "epochs", "learning_rate", "image_size", "network_def", "taps")


class Teacher:
    """Who teaches. Nothing is read, built or trained before it is asked for.

    The network, its taps, and the input that it takes are those of the ``settings.json`` beside its checkpoint; of a
    teacher that is trained first, those of its bundle. So any network that was trained by a bundle of this package can
    teach, and a student's config need not describe it.

    Logged as warnings: a teacher that was trained on slices which validate the student or are left out of its training.

    Args:
        checkpoint: its weights; ``None`` trains the teacher once, by the teacher's bundle, on the same data, into
            ``<output_dir>/teacher-<fingerprint of the settings and the data>/``.
        bundle: folder of the teacher's bundle.
        output_dir: folder of the student's run.
        run: values of the student's run that a teacher is trained with too, by the ids of the teacher's config.
        overrides: other values for it, taken as they are.
        taps: name to module path in the teacher, in place of its own.
        configs: of the bundle, to train a teacher by; later ones are laid over earlier ones.
    """

    def __init__(
        self,
        checkpoint: str | None,
        bundle: str | Path,
        output_dir: str | Path,
        run: Mapping[str, Any],
        overrides: Mapping[str, Any] | None = None,
        taps: Mapping[str, str] | None = None,
        configs: Sequence[str] = ("train.json",),
    ) -> None:
        self.checkpoint = None if checkpoint is None else Path(checkpoint).expanduser()
        self.bundle, self.output_dir = Path(bundle), Path(output_dir)
        self.dataset_dir, self.kept_from = run["dataset_dir"], {run["fold"], *run["leave_out"]}
        self.run = {**run, **(overrides or {})}
        self._taps, self._configs = taps, list(configs)

    @cached_property
    def trained(self) -> dict[str, Any]:
        """The ``settings.json`` of the teacher; of one that is trained first, what it will be.

        Raises:
            FileNotFoundError: there is no such checkpoint, or no bundle to train one by.
            ValueError: the settings can't be read, or the teacher was trained for other classes.
        """
        if self.checkpoint is None:
            workflow = self._workflow()
            return {name: workflow.value(f"settings::{name}") for name in workflow.parser["settings"]}
        settings = trained_settings(self.checkpoint)
        self._check_classes(settings)
        return settings

    @property
    def settings(self) -> dict[str, Any]:
        """What a student's ``settings.json`` keeps of its teacher: ``checkpoint``, absolute, and what made it."""
        path = self._folder / "model.pt" if self.checkpoint is None else self.checkpoint
        return {"checkpoint": str(path.resolve()), **{name: self.trained.get(name) for name in _KEPT}}

    def untrained(self) -> nn.Module:
        """The network with random weights, on the CPU; torch's random state stays as it is.

        Raises:
            ValueError: it can't be built; see `build_network`.
        """
        with torch.random.fork_rng(devices=[]):
            return build_network(self.trained["network_def"], trusted=self.checkpoint is None)

    def taps(self, network: nn.Module, names: Sequence[str]) -> dict[str, str]:
        """Name to module path in the network, for the student's names.

        Raises:
            ValueError: it is not known which modules to tap.
        """
        taps: Mapping[str, str] = self._taps or self.trained.get("taps") or {}
        if not taps and len(names) == 1 and isinstance(network, LateFusionClassifier):
            taps = {names[0]: network.last_convolution()}
        lacking = [name for name in names if name not in taps]
        if lacking:
            raise ValueError(
                f"teacher_taps: it is not known which module of the teacher, {type(network).__name__}, to compare with "
                f"{', '.join(lacking)} of the student; it has taps for {', '.join(taps) or 'none'}. Give "
                "--teacher_taps \"{'name': 'module.path'}\"; `python -m monai_kd taps` lists the modules."
            )
        return {name: taps[name] for name in names}

    def warn_unused(self) -> None:
        """Log that a checkpoint was given and no term of the recipe compares with a teacher."""
        if self.checkpoint is not None:
            logger.warning("teacher_checkpoint %s is not used: this recipe has no teacher.", self.checkpoint)

    def load(self) -> nn.Module:
        """The network with its weights, trained first when there is no checkpoint.

        Raises:
            FileNotFoundError: there is no such checkpoint, or no bundle to train one by.
            ValueError: the checkpoint does not fit its network.
        """
        network = self.untrained()
        if self.checkpoint is None:
            checkpoint = self._train()
        else:
            self._warn_of_leaks()
            checkpoint = self.checkpoint
        logger.info("teacher: %s", checkpoint)
        return load_weights(network, checkpoint)

    def _check_classes(self, trained: Mapping[str, Any]) -> None:
        """In another order the same number of classes would load, and teach the wrong ones."""
        theirs = trained.get("class_names")
        if not theirs or self.dataset_dir is None:
            return
        if list(theirs) != (own := class_names(self.dataset_dir)):
            raise ValueError(
                f"teacher_checkpoint {self.checkpoint} was trained for the classes {', '.join(theirs)}, and "
                f"{self.dataset_dir} has {', '.join(own)}: give a teacher of these classes in this order."
            )

    def _warn_of_leaks(self) -> None:
        folder, fold = self.trained.get("dataset_dir"), self.trained.get("fold")
        if self.dataset_dir is None:
            # Slices given one by one, by who labels them: nobody reports their numbers.
            return
        if folder is None or fold is None:
            logger.warning(
                "What the teacher %s was trained on is not known: if it saw slices that validate the student, the "
                "student's numbers are better than on new ones.",
                self.checkpoint,
            )
        elif not same_folder(folder, self.dataset_dir):
            logger.warning(
                "The teacher was trained on %s, the student is on %s: if the teacher saw patients that validate the "
                "student, the student's numbers are better than on new ones.",
                folder,
                self.dataset_dir,
            )
        elif seen := sorted(self.kept_from - {fold, *(self.trained.get("leave_out") or [])}):
            logger.warning(
                "The teacher was TRAINED ON the folds %s, which the student is kept from: through it they leak into "
                "the student, whose numbers on them are better than on new slices. Take a teacher trained with the "
                "same `fold` and `leave_out`.",
                seen,
            )

    @cached_property
    def _folder(self) -> Path:
        """Where the teacher is trained, named after its settings and its data."""
        return self.output_dir / f"teacher-{fingerprint(self.run)}"

    def _workflow(self, **more: Any) -> Workflow:
        folder = self.bundle / "configs"
        files = [folder / name for name in (*self._configs, *(["multi_gpu_train.json"] if in_processes() else []))]
        if self.dataset_dir is None:
            raise ValueError(
                "this recipe has a teacher, and there is no data set to train one on: give --teacher_checkpoint FILE."
            )
        if not files[0].is_file():
            raise FileNotFoundError(
                f"no teacher_checkpoint was given, and the teacher's bundle is not in {self.bundle.resolve()}: give "
                "--teacher_checkpoint FILE, or --teacher_bundle FOLDER."
            )
        values = {**self.run, "output_dir": str(self._folder), **more}
        # Objects, such as transforms of `augmentation`, are no text that could be parsed.
        given = {name: value if name == "augmentation" else literal(value) for name, value in values.items()}
        return Workflow([str(file) for file in files], workflow_type="train", logging_file=False, **given)

    def _train(self) -> Path:
        best, last = self._folder / "model.pt", self._folder / "last.ckpt"
        done = read_checkpoint(last)["epoch"] if last.is_file() else 0
        if done >= self.trained["epochs"] and best.is_file():
            # Raises where these are not the weights that were trained here.
            training_settings(best)
            logger.warning("No teacher_checkpoint was given: using the teacher trained earlier in %s.", self._folder)
            return best
        logger.warning(
            "No teacher_checkpoint was given: training the teacher FIRST, once, on the same data (%s), into %s.",
            self.dataset_dir,
            self._folder,
        )
        # A run of all its epochs whose weights are lost can't be resumed.
        workflow = self._workflow(resume=0 < done < self.trained["epochs"])
        workflow.initialize()
        workflow.run()
        if in_processes():
            # The first process has written the checkpoint when it gets here. Finalizing would end the group.
            dist.barrier()
        else:
            workflow.finalize()
        logger.warning("The teacher is trained: %s. Now the student.", best)
        return best


def fingerprint(run: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that tell with which settings, and on which data, a teacher is trained."""
    # Not on which device: of several processes, each has its own.
    told = {name: value for name, value in run.items() if name != "device"}
    data = (Path(run["dataset_dir"]) / "datalist.json").read_bytes()
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=_plain).encode() + data).hexdigest()[:10]


def _plain(value: Any) -> Any:
    """A transform, say, by its class and parameters: its ``repr`` holds an address, which differs in every run."""
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if not hasattr(value, "__dict__"):
        return str(value)
    parameters = {k: v for k, v in vars(value).items() if not isinstance(v, np.random.RandomState)}
    return [type(value).__qualname__, parameters]
