"""Which slice to label next: the one that teaches most."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from ..config import default_device
from ..inference import SourceImage, UnreadableImage
from ..metrics import slice_disagreement, slice_entropy
from ..transforms import foreground_probabilities
from .served import ServedBundle

__all__ = ["Disagreement", "Entropy", "Score", "ScoreUnlabelled", "Uncertain"]

logger = logging.getLogger(__name__)


class Score:
    """A number for each image of a datastore, kept there until other weights are published.

    Args:
        name: under which it is kept.
        bundles: whose weights it depends on.
        of: the number, of the probabilities of tumour that each bundle gives, (X, Y) or (X, Y, slices); of several
            classes, the highest of those that all bundles have.
        description: for who chooses among several.
    """

    def __init__(self, name: str, bundles: list[ServedBundle], of: Callable[..., float], description: str) -> None:
        self.name, self.bundles, self.of, self.description = name, bundles, of, description

    def known(self, datastore: Datastore, image: str) -> float | None:
        """What is kept for the weights of now; NaN for an image that can't be used."""
        kept = datastore.get_image_info(image).get(self.name)
        if not isinstance(kept, Mapping) or kept.get("weights") != self._weights():
            return None
        return float("nan") if kept["score"] is None else float(kept["score"])

    def compute(self, datastore: Datastore, image: str) -> float:
        """Compute and keep it."""
        device = default_device()
        try:
            source = self.bundles[0].read(datastore.get_image_uri(image), device)
            # Of a teacher that also marks what the student does not, that says nothing about the student.
            shared = set.intersection(*(set(bundle.predictor(device).mask_names) for bundle in self.bundles))
            score = self.of(*(_probability(bundle, source, device, shared) for bundle in self.bundles))
        except UnreadableImage as error:
            logger.warning("%s: the image %s is left out: %s.", self.name, image, error)
            score = float("nan")
        # JSON has no NaN.
        kept = {"score": None if np.isnan(score) else score, "weights": self._weights()}
        datastore.update_image_info(image, {self.name: kept})
        return score

    def _weights(self) -> str:
        return "-".join(bundle.stamp for bundle in self.bundles)


def _probability(bundle: ServedBundle, source: SourceImage, device: str, names: set[str]) -> np.ndarray:
    """The highest probability of these masks; of all, if it has none of them, as a single mask of another name."""
    found = np.asarray(torch.as_tensor(bundle.predict(source, device)["probability"]).cpu())
    own = bundle.predictor(device).mask_names
    places = [place for place, name in enumerate(own) if name in names] or range(len(own))
    return foreground_probabilities(found, len(own))[list(places)].max(axis=0)


class Entropy(Score):
    """How unsure the student is, see `slice_entropy`."""

    def __init__(self, student: ServedBundle) -> None:
        super().__init__("entropy", [student], slice_entropy, "The slice that the student is least sure of")


class Disagreement(Score):
    """How far student and teacher differ, see `slice_disagreement`."""

    def __init__(self, student: ServedBundle, teacher: ServedBundle) -> None:
        said = "The slice on which student and teacher differ most"
        super().__init__("disagreement", [student, teacher], slice_disagreement, said)


class Uncertain(Strategy):
    """The unlabelled image with the highest score.

    Images that were offered before come last, longest ago first, so that who passes one over gets the next.

    Args:
        score: what to go by.
        at_once: how many images may be scored while somebody waits; the others wait for `ScoreUnlabelled`, which MONAI
            Label runs in the background, or for the next time.
    """

    def __init__(self, score: Score, at_once: int = 100) -> None:
        super().__init__(score.description)
        self.score, self.at_once = score, at_once

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        scores, missing = {}, []
        for image in images:
            score = self.score.known(datastore, image)
            if score is None:
                missing.append(image)
            else:
                scores[image] = score
        for image in missing[: self.at_once]:
            scores[image] = self.score.compute(datastore, image)
        usable = {image: score for image, score in scores.items() if not np.isnan(score)}
        if not usable:
            return None
        strategy = request["strategy"]

        def rank(image: str) -> tuple[float, float]:
            offered = datastore.get_image_info(image).get("strategy", {}).get(strategy, {}).get("ts", 0)
            return offered, -usable[image]

        chosen = min(usable, key=rank)
        return {"id": chosen, "score": usable[chosen], "scored": len(scores), "unlabelled": len(images)}


class ScoreUnlabelled(ScoringMethod):
    """Score all unlabelled images that have no score yet, in the background, after training say.

    Args:
        score: what to compute.
    """

    def __init__(self, score: Score) -> None:
        super().__init__(f"{score.description}: scores all that are not labelled")
        self.score = score

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        images = datastore.get_unlabeled_images()
        missing = [image for image in images if self.score.known(datastore, image) is None]
        for image in missing:
            self.score.compute(datastore, image)
        return {"scored": len(missing), "unlabelled": len(images)}
