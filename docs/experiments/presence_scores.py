"""How well scores of a probability map tell slices with a tumour from slices without; see docs/examinations.md.

    python docs/experiments/presence_scores.py DATA CHECKPOINT [VOLUME LABEL]

Each slice of the fold that the checkpoint was not trained on is taken as it is, and with its tumour taken out. Prints
the area under the ROC curve of each score, by kind of tumour, and for the slices of a volume from elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.metrics import compute_roc_auc
from skimage.measure import label, regionprops

from monai_kd.bundle import trained_network, trained_settings
from monai_kd.config.errors import one_line_errors
from monai_kd.data import class_names, load_fold
from monai_kd.transforms import slice_preprocessing
from monai_kd.transforms.tumour_removal import remove_tumour


def _top(logits: torch.Tensor, count: int) -> float:
    return float(logits.flatten().topk(count).values.mean())


def _marks(logits: torch.Tensor) -> Sequence[int]:
    return [region.area for region in regionprops(label((logits > 0).numpy()))] or [0]


# Of the logits of a slice. The mean of the 25 highest is, but for the sigmoid, the presence score `top_k_mean`.
SCORES: dict[str, Callable[[torch.Tensor], float]] = {
    "highest": lambda logits: _top(logits, 1),
    "25 highest": lambda logits: _top(logits, 25),
    "100 highest": lambda logits: _top(logits, 100),
    "400 highest": lambda logits: _top(logits, 400),
    "log-sum-exp": lambda logits: float(logits.flatten().logsumexp(0)),
    "area above 0.5": lambda logits: float((logits > 0).sum()),
    "largest mark": lambda logits: float(max(_marks(logits))),
}


def scores_of(network: torch.nn.Module, image: torch.Tensor) -> np.ndarray:
    """The scores of a slice (C, X, Y), then those averaged with its mirror image."""
    with torch.no_grad():
        logits = network(image[None])[0, 0]
        other = network(image[None].flip(2))[0, 0].flip(0)
    both = torch.logit(((logits.sigmoid() + other.sigmoid()) / 2).clamp(1e-7, 1 - 1e-7))
    return np.array([score(each) for each in (logits, both) for score in SCORES.values()])


def area_under_curve(scores: np.ndarray, truth: np.ndarray) -> float:
    """Of the ROC; NaN without a slice of either kind."""
    return float(compute_roc_auc(torch.from_numpy(scores), torch.from_numpy(truth).int()))


@one_line_errors
def main(data: str, checkpoint: str, *volume: str) -> int:
    trained = trained_settings(checkpoint)
    network = trained_network(trained, checkpoint).eval()
    given = (trained["image_size"], trained["in_channels"], trained["mean"], trained["std"])
    prepare = slice_preprocessing(*given, label=True, single_slices=True)
    random, rows, truth, kinds = np.random.RandomState(0), [], [], []
    for entry in load_fold(data, trained["fold"], "validation"):
        item = prepare({"image": entry["image"], "label": entry["label"]})
        image, mask = (torch.as_tensor(item[key]) for key in ("image", "label"))
        without = remove_tumour(image, mask, random)
        for each, tumour in ((image, True), *([(without[0], False)] if without else [])):
            rows.append(scores_of(network, each.float()))
            truth.append(tumour)
            kinds.append(entry["class"])
    found, has_tumour, kind = np.array(rows), np.array(truth), np.array(kinds)
    names = class_names(data)
    tables = {f"{has_tumour.sum()} + {(~has_tumour).sum()} slices": (found, has_tumour)}
    tables |= {name: (found[kind == n], has_tumour[kind == n]) for n, name in enumerate(names)}
    if volume:
        prepare = slice_preprocessing(*given, label=True)
        item = prepare({"image": volume[0], "label": volume[1]})
        slices, masks = (torch.as_tensor(item[key]).movedim(-1, 0) for key in ("image", "label"))
        tables[volume[0]] = (
            np.array([scores_of(network, each.float()) for each in slices]),
            masks.flatten(1).any(1).numpy(),
        )
    print(f"{'':16}", *(f"{name[-24:]:>24}" for name in tables))
    for number, name in enumerate([*SCORES, *(f"{name}, mirrored" for name in SCORES)]):
        values = (area_under_curve(scores[:, number], has) for scores, has in tables.values())
        print(f"{name:24}", *(f"{value:24.3f}" for value in values))
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5) or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
