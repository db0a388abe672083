"""A MONAI Label app for slices: segmentation, classification, both together, training, choice of the next slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

from .. import __version__
from ..config import keep_freed_memory
from .infer import ClassificationTask, SegmentationTask
from .refusals import BatchWithRefusals, answered
from .select import Disagreement, Entropy, Score, ScoreUnlabelled, Uncertain
from .served import ServedBundle
from .train import LiteralTrainTask

__all__ = ["SliceApp"]


class SliceApp(MONAILabelApp):
    """The app of a folder that ``python -m monai_kd label_app`` made.

    - ``segmentation`` (with seg_student): infers, trains on what was labelled, publishes.
    - ``classification`` (with cls_student): infers.
    - ``both``: one request for mask and class.
    - strategies ``entropy`` and, with seg_teacher, ``disagreement``, besides MONAI Label's ``random`` and ``first``.

    Args:
        app_dir: the folder, with bundles in ``model/``.
        studies: folder of the images, or address of a DICOMweb server.
        conf: ``skip_trainers`` as ``true`` for a server that only infers.

    Raises:
        FileNotFoundError: there is neither a student for segmentation nor one for classification.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        models = Path(app_dir) / "model"
        self.student, self.teacher, self.classifier = (
            ServedBundle(models / name) for name in ("seg_student", "seg_teacher", "cls_student")
        )
        if not self.student.present and not self.classifier.present:
            raise FileNotFoundError(
                f"{models} holds neither seg_student nor cls_student with models/model.pt: make the folder by "
                "`python -m monai_kd label_app`."
            )
        keep_freed_memory()
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf or {}),
            name="monai_kd",
            description="Brain tumours on slices, by distilled networks. Research; not a medical device.",
            version=__version__,
            labels=list(self.student.labels) if self.student.present else None,
        )

    def init_infers(self) -> dict[str, InferTask]:
        tasks: dict[str, InferTask] = {}
        if self.student.present:
            tasks["segmentation"] = SegmentationTask(self.student)
        if self.classifier.present:
            tasks["classification"] = ClassificationTask(self.classifier)
        if len(tasks) == 2:
            tasks["both"] = SegmentationTask(self.student, self.classifier)
        return tasks

    def init_trainers(self) -> dict[str, TrainTask]:
        if not self.student.present or str(self.conf.get("skip_trainers", "false")).lower() == "true":
            return {}
        return {"segmentation": LiteralTrainTask(str(self.student.folder), self.conf, load_strict=True)}

    def init_batch_infer(self) -> BatchWithRefusals:
        return BatchWithRefusals()

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        with answered():
            return super().infer(request, datastore)

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with answered():
            return super().next_sample(request)

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with answered():
            return super().train(request)

    def scoring(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        with answered():
            return super().scoring(request, datastore)

    def init_strategies(self) -> dict[str, Strategy]:
        return {"random": Random(), "first": First(), **self._of_scores(Uncertain)}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return self._of_scores(ScoreUnlabelled)

    def _of_scores(self, build: Callable[[Score], Strategy | ScoringMethod]) -> dict:
        scores: list[Score] = []
        if self.student.present:
            scores.append(Entropy(self.student))
            if self.teacher.present:
                scores.append(Disagreement(self.student, self.teacher))
        return {score.name: build(score) for score in scores}
