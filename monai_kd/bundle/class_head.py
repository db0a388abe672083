"""``python -m monai_kd class_head``: the classifier within a network for both tasks, as a checkpoint of its own."""

from __future__ import annotations

from pathlib import Path

from data_prep.text import printable

from ..config.errors import one_line_errors
from ..data import NO_TUMOUR
from ..io.atomic import check_new_folder
from ..io.trained import MEASURED, learnt_classes, save_trained
from ..networks import TimmUNet
from .trained import named_network, trained_network, trained_settings, tried

__all__ = ["run_class_head", "write_class_head"]

# Settings of masks, and what was measured of them.
_OF_MASKS = ("mask_names", "multiclass", "activation", "volumes", "taps", *MEASURED)


def write_class_head(checkpoint: str | Path, output_dir: str | Path) -> Path:
    """Write encoder and class head of a `TimmUNet` with ``classes`` as a checkpoint of cls_student.

    It has the same weights, so that its classes are those of the network; the last one is "no tumour". What the network
    has seen, and its input, are kept in its ``settings.json``.

    Args:
        checkpoint: of the segmentation, with ``settings.json`` beside it.
        output_dir: new folder, for ``model.pt`` and ``settings.json``.

    Returns:
        The new checkpoint.

    Raises:
        FileExistsError: the folder is not empty.
        FileNotFoundError: there is no such checkpoint.
        ValueError: the network has no classes, has not learnt them, or has not one more than its settings name.
    """
    path, folder = Path(checkpoint).expanduser(), Path(output_dir).expanduser().absolute()
    check_new_folder(folder)
    settings = trained_settings(path)
    network = named_network(settings, path)
    if not isinstance(network, TimmUNet) or not network.classes:
        raise ValueError(
            f"{path} gives no classes, but masks alone: train a TimmUNet with `classes`, such as "
            "students/timm_lite0_classes_pretrained.json."
        )
    if not learnt_classes(settings):
        raise ValueError(
            f"{path} was trained without the loss term `class`, so that its class head stayed as it began: train it "
            "with a weight of `class`, such as by students/timm_lite0_classes_pretrained.json."
        )
    names = [*settings["class_names"], NO_TUMOUR]
    if len(names) != network.classes:
        raise ValueError(
            f"{path} gives {network.classes} classes, and its settings name {len(names) - 1}, to which 'no tumour' is "
            f"added: {', '.join(names[:-1]) or 'none'}. Correct class_names in settings.json beside it."
        )
    classifier = {
        "_target_": "monai_kd.networks.create_backbone",
        "name": settings["network_def"].get("encoder", "tf_efficientnet_lite0"),
        "num_classes": network.classes,
        **({} if settings["in_channels"] == 3 else {"in_chans": settings["in_channels"]}),
    }
    kept = {name: value for name, value in settings.items() if name not in _OF_MASKS}
    described = {**kept, "bundle": "cls_student", "network_def": classifier, "class_names": names}
    state = network.encoder.state_dict()
    alone = trained_network(described)
    alone.load_state_dict(state)
    tried(alone, described, "the classifier")
    folder.mkdir(parents=True, exist_ok=True)
    save_trained(state, folder / "model.pt", described)
    return folder / "model.pt"


@one_line_errors
def run_class_head(checkpoint: Path, output_dir: Path) -> int:
    """``python -m monai_kd class_head``: see `write_class_head`.

    Returns:
        The exit code: 0, or 2 after an error on stderr.
    """
    print(printable(f"{write_class_head(checkpoint, output_dir)}: a checkpoint of cls_student"))
    return 0
