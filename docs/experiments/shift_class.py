"""Change from which probability on a classifier names a class; see docs/study.md.

    python docs/experiments/shift_class.py RUN/model.pt OUT CLASS=PROBABILITY

writes OUT/model.pt and OUT/settings.json, a classifier that names the class where RUN's gives it at least this
probability against the most probable other class together with it, in place of one half: the bias of the class in the
last layer is lowered by log(p / (1 - p)). That is the correction of a softmax for another share of the class than that
of the training (Saerens et al. 2002): its odds are divided by p / (1 - p).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import nn

from monai_kd.bundle.trained import trained_network, trained_settings
from monai_kd.io.trained import MEASURED, read_trained, save_trained


def last_layer(network: nn.Module, classes: int) -> nn.Linear:
    """The layer that gives the logits.

    Raises:
        ValueError: there is none, or more than one, or it has no bias.
    """
    found = [each for each in network.modules() if isinstance(each, nn.Linear) and each.out_features == classes]
    if len(found) != 1 or found[0].bias is None:
        raise ValueError(f"{type(network).__name__} has {len(found)} layers of {classes} outputs with a bias, not 1.")
    return found[0]


def shift(checkpoint: str, folder: str, name: str, probability: float) -> None:
    """Write the shifted classifier.

    Raises:
        ValueError: the network has no such class, or the probability is not between 0 and 1.
    """
    trained = trained_settings(checkpoint)
    names = list(trained["class_names"])
    if name not in names:
        raise ValueError(f"{checkpoint} knows the classes {', '.join(names)}, not '{name}'.")
    if not 0 < probability < 1:
        raise ValueError(f"the probability must lie between 0 and 1, got {probability}.")
    network = trained_network(trained, checkpoint)
    with torch.no_grad():
        last_layer(network, len(names)).bias[names.index(name)] -= math.log(probability / (1 - probability))
    out = Path(folder) / "model.pt"
    if out.exists():
        raise ValueError(f"{out} exists already: give another folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in (read_trained(checkpoint) or {}).items() if key not in MEASURED}
    save_trained(network.state_dict(), out, {**kept, "shifted": {name: probability}})


def main(words: list[str]) -> int:
    if len(words) != 3 or "=" not in words[2]:
        print(__doc__, file=sys.stderr)
        return 2
    name, probability = words[2].split("=", 1)
    try:
        shift(words[0], words[1], name, float(probability))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
