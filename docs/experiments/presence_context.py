"""What it changes to judge a slice together with its neighbours; see docs/examinations.md.

    python docs/experiments/presence_context.py DATA CHECKPOINT [VOLUME LABEL]

DATA is a data set folder of the Figshare slices. Slices of the fold that the checkpoint was not trained on, with
consecutive numbers and of one patient, are taken as the slices of one volume, 7 mm apart (6 mm and a gap of 1 mm). From
each volume, others are made by taking tumours out of slices: all of them; those of the first and the last slice; all
but those of one slice, or of two neighbouring slices. Printed are, for each weight of the neighbours, the shares of
slices above the threshold of the checkpoint's operating point, and above that with a specificity of 0.95 on the slices
of whole volumes without a tumour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from monai_kd.bundle import second_reader, trained_network, trained_settings
from monai_kd.config.errors import one_line_errors
from monai_kd.data import load_fold
from monai_kd.metrics import presence_in_context, presence_score
from monai_kd.transforms import remove_tumour, slice_preprocessing

WEIGHTS = (0.0, 0.5, 1.0)
STEP_MM = 7.0
SPECIFICITY = 0.95
# Presence scores of a slice with its tumour, and without.
Scores = tuple[float, float]
Volume = tuple[list[float], list[bool]]


def number_of(entry: dict) -> int:
    return int(Path(entry["source"]).stem)


def volumes_of(entries: Sequence[dict]) -> list[list[dict]]:
    """Slices of one patient with consecutive numbers."""
    ordered = sorted(entries, key=lambda entry: (entry["patient"], number_of(entry)))
    breaks = [
        place + 1
        for place, (one, other) in enumerate(pairwise(ordered))
        if one["patient"] != other["patient"] or number_of(other) != number_of(one) + 1
    ]
    return [ordered[first:last] for first, last in pairwise([0, *breaks, len(ordered)])]


def volume(scores: Sequence[Scores], tumour: Callable[[int], bool]) -> Volume:
    """Scores and truth of a volume whose slices have a tumour where ``tumour`` says so."""
    truth = [tumour(place) for place in range(len(scores))]
    return [own[0] if has else own[1] for own, has in zip(scores, truth, strict=True)], truth


def _inside(count: int) -> Callable[[int], bool]:
    return lambda place: 0 < place < count - 1


def scenes(volumes: Sequence[Sequence[Scores]]) -> dict[str, list[Volume]]:
    """Volumes by what was taken out."""
    long = [own for own in volumes if len(own) > 3]
    found = {
        "nothing taken out": [volume(own, lambda _: True) for own in volumes],
        "all taken out": [volume(own, lambda _: False) for own in volumes],
        "ends taken out": [volume(own, _inside(len(own))) for own in long],
        "tumour on one slice": [
            volume(own[n - 1 : n + 2], lambda place: place == 1) for own in volumes for n in range(1, len(own) - 1)
        ],
        "tumour on two slices": [
            volume(own[n - 1 : n + 3], lambda place: place in (1, 2)) for own in volumes for n in range(1, len(own) - 2)
        ],
    }
    return {name: own for name, own in found.items() if own}


def judged(volumes: Sequence[Volume], weight: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores in context of all slices, and whether they have a tumour."""
    seen = [presence_in_context(np.array(own), step * np.arange(len(own)), weight) for own, _ in volumes]
    return np.concatenate(seen), np.array([has for _, truth in volumes for has in truth])


def shares(scores: np.ndarray, truth: np.ndarray, threshold: float) -> str:
    """Sensitivity / specificity."""
    parts = ((scores[truth] >= threshold), (scores[~truth] < threshold))
    return " / ".join(f"{part.mean():.3f}" if len(part) else "–" for part in parts)


class Scored:
    """Presence scores by a checkpoint, and by the classifier of its operating point, where that has one."""

    def __init__(self, checkpoint: str) -> None:
        self.trained = trained_settings(checkpoint)
        self.point = self.trained["operating_point"]
        if self.point is None:
            raise ValueError(f"the settings.json beside {checkpoint} has no operating_point.")
        self.network = trained_network(self.trained, checkpoint).eval()
        self.reader = second_reader(checkpoint, self.trained)
        self.given = [self.trained[name] for name in ("image_size", "in_channels", "mean", "std")]
        self.prepare = slice_preprocessing(*self.given, label=True, single_slices=True)

    @torch.inference_mode()
    def score(self, image: torch.Tensor) -> float:
        score = presence_score(self.network(image[None].float())[0].sigmoid(), self.point["score"])
        if self.reader is None:
            return score
        return float(self.reader.joined(np.array([score]), image[None])[0])

    def slices(self, entries: Sequence[dict]) -> Iterator[Scores | None]:
        """``None`` where the tumour can't be taken out."""
        random = np.random.RandomState(0)
        for entry in entries:
            item = self.prepare({"image": entry["image"], "label": entry["label"]})
            image, mask = (torch.as_tensor(item[key]) for key in ("image", "label"))
            without = remove_tumour(image, mask, random)
            yield None if without is None else (self.score(image), self.score(without[0]))


@one_line_errors
def main(data: str, checkpoint: str, *files: str) -> int:
    scored = Scored(checkpoint)
    fold = scored.trained["fold"]
    found = [list(scored.slices(own)) for own in volumes_of(load_fold(data, fold, "validation"))]
    # Where one slice keeps its tumour, nothing can be said of the volume without it.
    volumes = [[own for own in each if own] for each in found if None not in each]
    if not volumes:
        raise ValueError(f"{data}: tumours can be taken out of no volume of fold {fold + 1}.")
    sets, step = scenes(volumes), {}
    if files:
        item = slice_preprocessing(*scored.given, label=True)({"image": files[0], "label": files[1]})
        slices, masks = (torch.as_tensor(item[key]).movedim(-1, 0) for key in ("image", "label"))
        sets[files[0]] = [([scored.score(each) for each in slices], masks.flatten(1).any(1).tolist())]
        step = {files[0]: float(item["image"].meta["spacing"][2])}
    print(f"{len(volumes)} volumes of {sum(map(len, volumes))} slices; sensitivity / specificity by slice")
    for weight in WEIGHTS:
        results = {name: judged(own, weight, step.get(name, STEP_MM)) for name, own in sets.items()}
        chosen = float(np.quantile(results["all taken out"][0], SPECIFICITY))
        for threshold in (float(scored.point["threshold"]), chosen):
            print(f"weight {weight:g}, threshold {threshold:.4f}")
            for name, (scores, truth) in results.items():
                print(f"    {name[-40:]:40} {shares(scores, truth, threshold)}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5) or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
