"""What docs/experiments/gpu.sh does; its header describes the commands."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from monai_kd.data import is_labelled, read_datalist
from monai_kd.io import read_checkpoint, save_checkpoint
from monai_kd.io.trained import read_trained, save_trained
from monai_kd.networks.installed_weights import weights_package
from monai_kd.transforms import slice_preprocessing

PRETRAINED = ("tf_efficientnet_lite0", "tf_efficientnet_lite2", "vit_small_patch14_dinov2")
# Of what travels there in one piece, and of a file that comes back.
PIECE, RETURNED = 30 << 20, 15 << 20


def pack(data: Path, folder: Path, side: int) -> None:
    """Write the data set and the pretrained weights as pieces of a tar archive, ``pack.tar.000`` …"""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        content = Path(temporary)
        _pack_data(data, content / "data", side)
        for name in PRETRAINED:
            _pack_weights(name, content / "site")
        with tarfile.open(content / "pack.tar", "w") as archive:
            for part in ("data", "site"):
                if (content / part).is_dir():
                    archive.add(content / part, part)
        pieces = _split(content / "pack.tar", folder / "pack.tar", PIECE)
    print(f"{len(pieces)} files in {folder}")


def _pack_data(data: Path, target: Path, side: int) -> None:
    """Slices as the network sees them, before normalisation, in 8 bits.

    They are scaled to 0 … 1 again when they are read: resizing has lowered the peaks, so that brightness and contrast
    differ by some percent from those of the original slices.
    """
    datalist = read_datalist(data)
    prepare = slice_preprocessing(side, channels=1, mean=None, std=None, label=True, single_slices=True)
    for kind in ("images", "labels"):
        (target / kind).mkdir(parents=True)
    datalist["training"] = list(filter(is_labelled, datalist["training"]))
    for number, entry in enumerate(datalist["training"]):
        item = prepare({**entry, "image": str(data / entry["image"]), "label": str(data / entry["label"])})
        for key in ("image", "label"):
            # The reader indexes pictures by (x, y).
            pixels = np.rint(np.asarray(item[key])[0].T * 255).clip(0, 255).astype(np.uint8)
            entry[key] = f"{key}s/{number:04d}.png"
            Image.fromarray(pixels).save(target / entry[key], optimize=True)
    (target / "datalist.json").write_text(json.dumps({**datalist, "mask_value": 255}), encoding="utf-8")


def _pack_weights(name: str, site: Path) -> None:
    """The package of pretrained weights in half precision, as far as `create_backbone` needs it."""
    package = weights_package(name)
    path = None if package is None else package.file()
    if package is None or path is None:
        print(f"not packed: the weights of {name} are not installed", file=sys.stderr)
        return
    target = site / package.module / Path(package.files).parent / path.name
    target.parent.mkdir(parents=True)
    (site / package.module / "__init__.py").touch()
    information = site / f"{package.module}-{package.version()}.dist-info"
    information.mkdir()
    metadata = importlib.metadata.distribution(package.name).read_text("METADATA") or ""
    (information / "METADATA").write_text(metadata, encoding="utf-8")
    if path.suffix == ".onnx":
        import onnx
        from onnx import numpy_helper

        model = onnx.load(str(path))
        for each in model.graph.initializer:
            values = numpy_helper.to_array(each)
            if values.dtype == np.float32:
                each.CopyFrom(numpy_helper.from_array(values.astype(np.float16), each.name))
        onnx.save(model, str(target))
    else:
        save_checkpoint(_half(read_checkpoint(path)), target)


def run(here: Path, folder: Path, out: Path, minutes: str, words: list[str]) -> int:
    """Unpack once, train for some minutes, and leave in ``out`` what is to come back."""
    place = folder / "unpacked"
    if not (place / "done").is_file():
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as joined:
            for piece in sorted(folder.glob("pack.tar.*")):
                joined.write(piece.read_bytes())
            joined.seek(0)
            with tarfile.open(fileobj=joined) as archive:
                archive.extractall(place, filter="data")
        (place / "done").touch()
    runs = place / "runs"
    for given in sorted((folder / "runs").glob("*")) if (folder / "runs").is_dir() else []:
        if not (runs / given.name).exists():
            shutil.copytree(given, runs / given.name)
    root = here.parents[1]
    path = os.pathsep.join([str(root), str(place / "site"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(here / "study.py"), *words, f"data={place / 'data'}", f"runs={runs}"]
    code = subprocess.run(
        [*command, f"minutes={minutes}"], env={**os.environ, "PYTHONPATH": path}, check=False
    ).returncode
    for trained in sorted(runs.glob("*/model.pt")):
        _leave(trained.parent, out)
    return code


def _leave(trained: Path, out: Path) -> None:
    """The network in half precision with its settings and log, in files that may come back."""
    target = out / trained.name
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model.pt"
        save_trained(_half(read_checkpoint(trained / "model.pt")), model, read_trained(trained / "model.pt"))
        _split(model, target / "model.pt", RETURNED)
        shutil.copy(model.with_name("settings.json"), target)
    shutil.copy(trained / "log.csv", target)


def fetch(out: Path, folder: Path) -> None:
    """Put what came back into ``FOLDER/runs``."""
    for returned in sorted(path.parent for path in out.glob("*/model.pt.000")):
        target = folder / "runs" / returned.name
        target.mkdir(parents=True, exist_ok=True)
        for name in ("settings.json", "log.csv"):
            shutil.copy(returned / name, target)
        pieces = sorted(returned.glob("model.pt.*"))
        (target / "model.pt").write_bytes(b"".join(piece.read_bytes() for piece in pieces))
        read_trained(target / "model.pt")
        print(target)


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


def _split(file: Path, target: Path, size: int) -> list[Path]:
    for earlier in target.parent.glob(f"{target.name}.[0-9][0-9][0-9]"):
        earlier.unlink()
    pieces = []
    with open(file, "rb") as source:
        while block := source.read(size):
            pieces.append(target.with_name(f"{target.name}.{len(pieces):03d}"))
            pieces[-1].write_bytes(block)
    return pieces


def main(words: list[str]) -> int:
    here, words = Path(words[0]), words[1:]
    if words[:1] == ["pack"] and len(words) in (3, 4):
        pack(Path(words[1]), Path(words[2]), int(words[3]) if len(words) == 4 else 256)
        return 0
    if words[:1] == ["run"] and len(words) >= 7:
        return run(here, Path(words[1]).resolve(), Path(words[2]), words[3], words[4:])
    if words[:1] == ["fetch"] and len(words) == 3:
        fetch(Path(words[1]), Path(words[2]))
        return 0
    print((here / "gpu.sh").read_text(encoding="utf-8").split("set -euo")[0], file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
