"""What docs/experiments/gpu.sh does; its header describes the commands."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import json
import os
import shlex
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from gpu_plan import Plan, ended_by_signal, shared_gpu
from PIL import Image

from monai_kd.data import is_labelled, read_datalist
from monai_kd.io import read_checkpoint, save_checkpoint
from monai_kd.io.trained import read_trained, save_trained, settings_path
from monai_kd.networks.installed_weights import weights_package
from monai_kd.transforms import slice_preprocessing

PRETRAINED = ("tf_efficientnet_lite0", "tf_efficientnet_lite2", "vit_small_patch14_dinov2")
# Of what travels there in one piece, and of a file that comes back.
PIECE, RETURNED = 30 << 20, 15 << 20
RESULTS = "results.tar.gz"


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

    Raises:
        ValueError: the slices differ in size.
    """
    datalist, sizes = read_datalist(data), set[tuple[int, ...]]()
    prepare = slice_preprocessing(side, channels=1, mean=None, std=None, label=True, single_slices=True)
    for kind in ("images", "labels"):
        (target / kind).mkdir(parents=True)
    datalist["training"] = [each for each in datalist["training"] if is_labelled(each) and "label" in each]
    for number, entry in enumerate(datalist["training"]):
        item = prepare({**entry, "image": str(data / entry["image"]), "label": str(data / entry["label"])})
        sizes.add(tuple(int(pixels) for pixels in item["image"].meta["spatial_shape"][:2]))
        for key in ("image", "label"):
            # The reader indexes pictures by (x, y).
            pixels = np.rint(np.asarray(item[key])[0].T * 255).clip(0, 255).astype(np.uint8)
            entry[key] = f"{key}s/{number:04d}.png"
            Image.fromarray(pixels).save(target / entry[key], optimize=True)
    if len(sizes) > 1:
        raise ValueError(f"{data} holds slices of several sizes, {sorted(sizes)}: the data list has one spacing.")
    # Pictures have the size of their pixels in mm from the data list.
    scale = [pixels / side for pixels in (*sizes.pop(), side)]
    datalist["spacing"] = [mm * factor for mm, factor in zip(datalist["spacing"], scale, strict=True)]
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
        save_checkpoint(half(read_checkpoint(path)), target)


def run(here: Path, folder: Path, out: Path, minutes: str, lines: list[list[str]], bring: list[str]) -> int:
    """Unpack once, run a `Plan` for some minutes, and leave in ``out`` what is to come back."""
    place = _unpacked(folder)
    places = [f"data={place / 'data'}", f"runs={place / 'runs'}"]
    plan = Plan(here, [[*line, *places] for line in lines], place / "logs")
    path = os.pathsep.join([str(here.parents[1]), str(place / "site"), os.environ.get("PYTHONPATH", "")])
    try:
        with ended_by_signal(), shared_gpu({**os.environ, "PYTHONPATH": path}) as environment:
            return plan.run(float(minutes), environment)
    finally:
        collect(place / "runs", out, bring, place / "logs")


def _unpacked(folder: Path) -> Path:
    """Where data, weights and runs are."""
    place = folder / "unpacked"
    if not (place / "done").is_file():
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as joined:
            for piece in sorted(folder.glob("pack.tar.*")):
                joined.write(piece.read_bytes())
            joined.seek(0)
            with tarfile.open(fileobj=joined) as archive:
                _extract(archive, place)
        (place / "done").touch()
    for given in sorted(path.parent for path in (folder / "runs").glob("*/model.pt")):
        if not (place / "runs" / given.name).exists():
            shutil.copytree(given, place / "runs" / given.name)
    return place


def _extract(archive: tarfile.TarFile, place: Path) -> None:
    """Extract files and folders within ``place`` alone.

    Raises:
        tarfile.TarError: there is something else.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(place, filter="data")
        return
    # Python 3.10 before 3.10.12 and 3.11 before 3.11.4, as in Debian 12, have no filters.
    for member in archive:
        path = PurePosixPath(member.name)
        if not (member.isfile() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.ExtractError(f"{archive.name}: {member.name} is no file or folder within the archive.")
    archive.extractall(place)


def collect(runs: Path, out: Path, bring: list[str], logs: Path) -> None:
    """Leave the networks of runs that are named, and an archive of what is known of all.

    Args:
        runs: folder of the runs.
        out: gets ``NAME.pt.000`` … of each network, in half precision, and ``results.tar.gz`` with tables, settings and
            evaluations. Networks of an earlier call are removed.
        bring: patterns of the names of runs whose networks come back.
        logs: folder that comes back, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    for earlier in out.glob("*.pt.[0-9][0-9][0-9]"):
        earlier.unlink()
    with tempfile.TemporaryDirectory() as temporary, tarfile.open(out / RESULTS, "w:gz") as archive:
        archive.add(logs, "logs")
        for run in sorted(path for path in runs.glob("*") if path.is_dir()):
            brought = (run / "model.pt").is_file() and any(fnmatch.fnmatch(run.name, pattern) for pattern in bring)
            if brought:
                model = Path(temporary) / run.name / "model.pt"
                model.parent.mkdir()
                # Its settings have the checksum of the network in half precision.
                save_trained(half(read_checkpoint(run / "model.pt")), model, read_trained(run / "model.pt"))
                _split(model, out / f"{run.name}.pt", RETURNED)
                archive.add(settings_path(model), f"networks/{run.name}/settings.json")
            for file in sorted(file for suffix in (".json", ".csv") for file in run.rglob(f"*{suffix}")):
                archive.add(file, Path("results") / file.relative_to(runs))


def fetch(out: Path, folder: Path) -> None:
    """Put the networks that came back into ``FOLDER/runs``, with all that is known of them, and the rest beside it.

    ``FOLDER/results`` has tables and settings of all runs, ``FOLDER/logs`` what they printed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        with tarfile.open(out / RESULTS) as archive:
            _extract(archive, Path(temporary))
        for part in ("logs", "results"):
            if (there := Path(temporary) / part).is_dir():
                shutil.copytree(there, folder / part, dirs_exist_ok=True)
        for settings in sorted(Path(temporary).glob("networks/*/settings.json")):
            name = settings.parent.name
            model = settings.with_name("model.pt")
            model.write_bytes(b"".join(piece.read_bytes() for piece in sorted(out.glob(f"{name}.pt.*"))))
            read_trained(model)
            target = folder / "runs" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(temporary) / "results" / name, target)
            shutil.copytree(settings.parent, target, dirs_exist_ok=True)
            print(target / "model.pt")


def half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in half precision; counts and other integers as they are."""
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
    if (words[:1] == ["run"] and len(words) >= 7) or (words[:1] == ["plan"] and len(words) >= 5):
        lines, bring = [words[4:]], ["*"]
        if words[0] == "plan":
            text = Path(words[4]).read_text(encoding="utf-8").splitlines()
            lines, bring = [line for each in text if (line := shlex.split(each, comments=True))], words[5:]
        try:
            return run(here, Path(words[1]).resolve(), Path(words[2]), words[3], lines, bring)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    if words[:1] == ["fetch"] and len(words) == 3:
        fetch(Path(words[1]), Path(words[2]))
        return 0
    print((here / "gpu.sh").read_text(encoding="utf-8").split("set -euo")[0], file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
