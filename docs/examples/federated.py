"""Federated averaging over several hospitals in one process, with MONAI's own client; see docs/federated.md."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from data_prep.disk import check_writable
from monai_kd.config import literal
from monai_kd.io.atomic import check_new_folder
from monai_kd.io.trained import save_trained

Weights = Mapping[str, torch.Tensor]


def client(bundle: Path, name: str, data: Path, folder: Path, steps: int, **options: Any) -> MonaiAlgo:
    """A client that trains on the data of one hospital, with a copy of the bundle of its own.

    Args:
        bundle: folder of a student's bundle.
        name: of the client.
        data: its data set folder.
        folder: where the copy is made.
        steps: epochs of all rounds together, over which the learning rate falls.
        options: values of train.json.
    """
    shutil.copytree(bundle, folder / bundle.name, ignore=shutil.ignore_patterns("models"))
    values = {"dataset_dir": literal(str(data)), "lr_scheduler#T_max": steps, **options}
    # The evaluator is that of train.json: evaluate.json is for a checkpoint.
    algo = MonaiAlgo(
        bundle_root=bundle.name,
        send_weight_diff=False,
        train_kwargs=dict(values),
        config_evaluate_filename="configs/train.json",
        eval_kwargs=dict(values),
    )
    algo.initialize({ExtraItems.CLIENT_NAME: name, ExtraItems.APP_ROOT: str(folder)})
    return algo


def average(weights: Sequence[Weights], counts: Sequence[int]) -> dict[str, torch.Tensor]:
    """The mean of each weight, by the number of training slices; counters are those of the first client."""
    total = sum(counts)
    return {
        name: sum(each[name] * (count / total) for each, count in zip(weights, counts, strict=True))
        if value.is_floating_point()
        else value
        for name, value in weights[0].items()
    }


def validated(algo: MonaiAlgo, sent: ExchangeObject) -> float:
    """Dice, or accuracy, of weights on the validation fold of a client."""
    metrics = algo.evaluate(sent).metrics
    return float(metrics[algo.evaluator.state.key_metric_name])


def simulate(
    bundle: Path, data: Mapping[str, Path], folder: Path, rounds: int, **options: Any
) -> list[dict[str, float]]:
    """Train one student on the data of several clients; only weights leave a client.

    Args:
        bundle: folder of a student's bundle.
        data: name of each client to its data set folder.
        folder: of the simulation; ``model.pt`` and ``settings.json`` of the common student are written there.
        rounds: each is one epoch of every client.
        options: values of train.json.

    Returns:
        For each round the validation Dice, or accuracy, of the common student at each client.
    """
    check_new_folder(folder)
    check_writable(folder)
    clients = {
        name: client(bundle.resolve(), name, path.resolve(), (folder / name).resolve(), rounds, **options)
        for name, path in data.items()
    }
    first = next(iter(clients.values()))
    counts = [len(each.train_workflow.train_dataset_data) for each in clients.values()]
    common = {name: value.cpu().clone() for name, value in first.get_weights().weights.items()}
    history = []
    for number in range(1, rounds + 1):
        sent = ExchangeObject(weights=common, weight_type=WeightType.WEIGHTS)
        trained = []
        for each in clients.values():
            each.train(sent)
            trained.append({name: value.clone() for name, value in each.get_weights().weights.items()})
        common = average(trained, counts)
        sent = ExchangeObject(weights=common, weight_type=WeightType.WEIGHTS)
        history.append({name: validated(each, sent) for name, each in clients.items()})
        print(f"round {number}/{rounds}: " + ", ".join(f"{name} {found:.3f}" for name, found in history[-1].items()))
    settings = {**first.trainer.state.run_settings, "dataset_dir": None, "fold": None}
    save_trained(common, folder / "model.pt", settings)
    for each in clients.values():
        each.finalize()
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="data set folder of each hospital")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/seg_student"))
    parser.add_argument("--folder", type=Path, default=Path("federated"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--teacher_checkpoint", type=Path, help="teaches at every client; without one, nothing does")
    given = parser.parse_args()
    values: dict[str, Any] = {"recipe": "none"}
    if given.teacher_checkpoint is not None:
        values = {"teacher_checkpoint": literal(str(given.teacher_checkpoint.resolve()))}
    names = {f"client{number}": path for number, path in enumerate(given.data, 1)}
    simulate(given.bundle, names, given.folder, given.rounds, **values)
