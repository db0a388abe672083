"""Damaged files of every kind at every door: only the documented exception comes out.

The examples are the same in each run. ``MONAI_KD_FUZZ=20`` makes them 20 times as many, and other ones each time.
"""

# ruff: noqa: PT017 (most examples may be refused or not; of those that are, the message is checked)

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_file import write_dicom_file
from monai.data import MetaTensor
from monai.utils.enums import CommonKeys as Keys
from PIL import Image
from scipy.io import savemat

from data_prep.folds import FoldError, folds_from_cvind
from monai_kd.bundle import trained_settings
from monai_kd.bundle.temperature import read_temperature
from monai_kd.data import class_names, load_fold, read_datalist
from monai_kd.inference import InputFiles, UnreadableImage, read_image
from monai_kd.inference.familiarity import Familiarity
from monai_kd.inference.masks import mask_path
from monai_kd.io.checkpoints import load_weights, read_checkpoint
from monai_kd.io.trained import read_trained
from monai_kd.metrics.familiarity import FeatureReference

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
MORE = int(os.environ.get("MONAI_KD_FUZZ", "0"))
WILD = (0, 1, -1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1)
WILD_FLOATS = (float("nan"), float("inf"), -1.0, 0.0, 1e-45, 1e30, 2.0**63)


def examples(count: int, **more: Any) -> Callable:
    return settings(
        max_examples=count * max(1, MORE),
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


@st.composite
def damaged(draw: Callable, blob: bytes, header: int = 600) -> bytes:
    """The file cut off, with bits turned, bytes spliced in, copied and taken out, and wild numbers in its header."""
    content = bytearray(blob)
    for _ in range(draw(st.integers(1, 3))):
        size = len(content)
        at = draw(st.one_of(st.integers(0, min(size, header)), st.integers(0, size)))
        kind = draw(st.sampled_from(("number", "number", "float", "bit", "truncate", "insert", "copy", "remove")))
        if kind == "number":
            width, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(("little", "big")))
            content[at : at + width] = (draw(st.sampled_from(WILD)) % 256**width).to_bytes(width, order)
        elif kind == "float":
            content[at : at + 4] = struct.pack("<f", draw(st.sampled_from(WILD_FLOATS)))
        elif kind == "bit" and at < size:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "truncate":
            del content[at:]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "copy":
            other = draw(st.integers(0, size))
            content[at:at] = content[other : other + draw(st.integers(1, 64))]
        elif kind == "remove":
            del content[at : at + draw(st.integers(1, 64))]
    return bytes(content)


def collected(blob: bytes, count: int) -> list[bytes]:
    """Examples to be used in another process."""
    found: list[bytes] = []

    @examples(count, phases=[Phase.generate])
    @given(damaged(blob))
    def collect(content: bytes) -> None:
        found.append(content)

    collect()
    return found


IMAGE = np.random.default_rng(0).integers(100, 1000, (14, 18)).astype(np.int16)  # (rows, columns)
AFFINE = np.diag([-0.5, -0.75, 4.0, 1.0])


def nifti(slices: int = 1) -> bytes:
    return nib.Nifti1Image(np.repeat(IMAGE.T[..., None], slices, axis=2), AFFINE).to_bytes()


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((IMAGE / 4).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def dicom(syntax: str = pydicom.uid.ExplicitVRLittleEndian) -> bytes:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.SeriesInstanceUID, data.Modality, data.PhotometricInterpretation = "1.2.3", "MR", "MONOCHROME2"
    data.PixelSpacing, data.ImageOrientationPatient = [0.5, 0.75], [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient, data.RescaleSlope, data.RescaleIntercept = [0, 0, 4], 1.5, -3
    (data.Rows, data.Columns), data.SamplesPerPixel = IMAGE.shape, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    if syntax == pydicom.uid.RLELossless:
        data.compress(syntax, IMAGE, generate_instance_uid=False)
    else:
        data.PixelData = IMAGE.tobytes()
    buffer = io.BytesIO()
    write_dicom_file(buffer, data)
    return buffer.getvalue()


def fields() -> dict[str, Any]:
    mask = np.zeros(IMAGE.shape, np.uint8)
    mask[3:9, 4:12] = 1
    border = np.array([4.5, 3.5, 12.5, 3.5, 12.5, 9.5, 4.5, 9.5])[:, None]
    return {"label": 2.0, "PID": "100360", "image": IMAGE, "tumorBorder": border, "tumorMask": mask}


def mat_73() -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512, libver="earliest") as file:
        for name, value in fields().items():
            array = np.array([[ord(c)] for c in value], "u2") if isinstance(value, str) else np.atleast_2d(value).T
            packing = {"compression": "gzip"} if name == "image" else {}
            data = file.create_dataset(f"cjdata/{name}", data=array, **packing)
            data.attrs["MATLAB_class"] = np.bytes_("char" if isinstance(value, str) else "double")
    return buffer.getvalue()


def mat_5(packed: bool) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"cjdata": fields()}, do_compression=packed)
    return buffer.getvalue()


def cvind() -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"cvind": np.array([1.0, 2, 3, 1, 2])})
    return buffer.getvalue()


def archive(*members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for number, member in enumerate(members, 1):
            file.writestr(f"{number}.mat", member)
    return buffer.getvalue()


def with_checksums(png: bytes) -> bytes:
    """The checksums of a PNG mended, so that what they protect is looked at."""
    content, at = bytearray(png), 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        content[end : end + 4] = zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(content)


def as_it_is(content: bytes) -> bytes:
    return content


def packed(content: bytes) -> bytes:
    return gzip.compress(content, 1)


IMAGES = [
    pytest.param(".nii", nifti(), as_it_is, id="nifti"),
    pytest.param(".nii", nifti(3), as_it_is, id="nifti-volume"),
    pytest.param(".nii.gz", nifti(), packed, id="nifti-packed"),
    pytest.param(".nii.gz", packed(nifti()), as_it_is, id="nifti-gzip"),
    pytest.param(".png", picture("png"), as_it_is, id="png"),
    pytest.param(".png", picture("png"), with_checksums, id="png-checksums"),
    pytest.param(".jpg", picture("jpeg"), as_it_is, id="jpeg"),
    pytest.param(".dcm", dicom(), as_it_is, id="dicom"),
    pytest.param(".dcm", dicom(pydicom.uid.RLELossless), as_it_is, id="dicom-run-length"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("suffix", "blob", "mend"), IMAGES)
def test_read_image(suffix, blob, mend, folder):
    read_image(written(folder / f"whole{suffix}", mend(blob)))
    outcomes = Counter()

    @examples(40)
    @given(damaged(blob))
    def check(content: bytes) -> None:
        try:
            image, meta = read_image(written(folder / f"slice{suffix}", mend(content)))
        except UnreadableImage as error:
            assert str(error)
            assert "\n" not in str(error)
            outcomes["refused"] += 1
        else:
            assert np.isfinite(image).all()
            assert np.isfinite(meta["affine"]).all()
            outcomes["read"] += 1

    check()
    assert outcomes["refused"] > 0


# Damaged files are known to end the process in scipy and in HDF5, so that another one reads them.
PROGRAM = """
import resource, sys
from data_prep.convert import ConvertError, convert
from data_prep.matfile import BadSlice, read_folds, read_slice

resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)

def read(path):
    for function in (read_slice, lambda path: read_slice(path, labelled=False), read_folds):
        try:
            function(path)
        except BadSlice as bad:
            assert str(bad)

def converted(path):
    try:
        convert(path, path + ".data", workers=1, progress=False)
    except ConvertError as error:
        assert str(error)

for path in sys.argv[2:]:
    print(path, flush=True)
    globals()[sys.argv[1]](path)
"""


def in_another_process(function: str, paths: list[Path]) -> list[Path]:
    """Call a function of `PROGRAM` with each path; returns those that ended the process by a signal."""
    ended, left = [], paths
    while left:
        command = [sys.executable, "-c", PROGRAM, function, *map(str, left)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            break
        last = Path(done.stdout.split()[-1])
        content = base64.b64encode(zlib.compress(last.read_bytes())).decode()
        assert done.returncode < 0, f"{done.stderr[-2000:]}\nzlib.decompress(base64.b64decode({content!r}))"
        ended.append(last)
        left = left[left.index(last) + 1 :]
    return ended


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(mat_73(), id="7.3"),
        pytest.param(mat_5(packed=False), id="5"),
        pytest.param(mat_5(packed=True), id="5-packed"),
        pytest.param(cvind(), id="cvind"),
    ],
)
def test_read_mat(blob, tmp_path):
    paths = [written(tmp_path / f"{number}.mat", content) for number, content in enumerate(collected(blob, 60))]
    deadly = in_another_process("read", paths)
    assert not in_another_process("converted", deadly)


def test_type_of_numbers_for_which_scipy_reads_at_address_0(tmp_path):
    pytest.importorskip("data_prep.child", reason="conversion reads in the process that converts")
    numbers = struct.pack("<2I", 9, 40)  # miDOUBLE, five of them
    assert cvind().count(numbers) == 1
    path = written(tmp_path / "cvind.mat", cvind().replace(numbers, struct.pack("<2I", 0, 40)))
    assert in_another_process("read", [path]) == [path]
    assert not in_another_process("converted", [path])


def test_convert_archive(tmp_path):
    blob = archive(mat_5(packed=False), cvind())
    paths = [written(tmp_path / f"{number}.zip", content) for number, content in enumerate(collected(blob, 25))]
    assert not in_another_process("converted", paths)


@examples(60)
@given(st.lists(st.floats(allow_subnormal=False) | st.integers(-2, 101).map(float), max_size=6), st.data())
def test_fold_numbers(numbers, data):
    slices = data.draw(st.lists(st.none() | st.integers(-1, 8), min_size=1, max_size=6))
    groups = [data.draw(st.sampled_from("abc")) for _ in slices]
    try:
        made = folds_from_cvind(slices, groups, [1] * len(slices), numbers)
    except FoldError:
        return
    assert len(made.folds) == len(slices)
    assert len(set(zip(groups, made.folds, strict=True))) == len(set(groups))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw: Callable, value: Any) -> Any:
    """A JSON value with one of its parts exchanged for another value, or missing."""
    parts = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not parts or draw(st.integers(0, 5)) == 0:
        return draw(JSON)
    key, inner = draw(st.sampled_from(parts))
    result = dict(value) if isinstance(value, dict) else list(value)
    if draw(st.integers(0, 5)) == 0:
        del result[key]
    else:
        result[key] = draw(changed(inner))
    return result


def texts(value: Any) -> st.SearchStrategy[bytes]:
    """The value as a JSON file: with another value in it, or with other bytes, or deeper than can be parsed."""
    text = json.dumps(value).encode()
    return changed(value).map(lambda other: json.dumps(other).encode()) | damaged(text) | st.just(b"[" * 100_000 + text)


ENTRY = {"image": "a.nii", "label": "b.nii", "class": 0, "patient": "p", "group": "p", "fold": 0, "source": "1.mat"}
DATALIST = {
    "labels": {"1": "one", "2": "two"},
    "training": [ENTRY, {**ENTRY, "image": "c.nii", "fold": 1}],
    "spacing": [0.5, 0.5, 6.0],
}


def test_datalist(tmp_path):
    for name in ("a.nii", "b.nii", "c.nii"):
        written(tmp_path / name, b"")
    readers = (
        read_datalist,
        class_names,
        lambda folder: load_fold(folder, 0, "training"),
        lambda folder: load_fold(folder, None, "all", keys=["image"]),
    )

    @examples(250)
    @given(texts(DATALIST))
    def check(content: bytes) -> None:
        written(tmp_path / "datalist.json", content)
        for read in readers:
            try:
                read(tmp_path)
            except (ValueError, FileNotFoundError) as error:
                assert str(tmp_path) in str(error)

    check()


def test_settings_beside_a_checkpoint(tmp_path):
    checkpoint = written(tmp_path / "model.pt", b"")

    sha256 = hashlib.sha256(b"").hexdigest()
    values = {"image_size": 64, "features": [8, 8, 16, 16, 16, 8], "norm": "batch"}
    before = {**values, "weights_sha256": "0" * 64}

    @examples(100)
    @given(texts({**values, "weights_sha256": sha256}) | texts({**values, "weights_sha256": None, "previous": before}))
    def check(content: bytes) -> None:
        path = written(tmp_path / "settings.json", content)
        try:
            found = read_trained(checkpoint)
            trained_settings(checkpoint)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert found is None or isinstance(found, dict)

    check()


def test_temperature_of_an_evaluation(tmp_path):
    checkpoint = written(tmp_path / "model.pt", b"weights")
    path = tmp_path / "temperature.json"

    @examples(60)
    @given(texts({"temperature": 1.5, "checkpoint": {"sha256": "0" * 64, "path": "model.pt"}}))
    def check(content: bytes) -> None:
        written(path, content)
        with pytest.raises(ValueError, match="--temperature") as info:
            read_temperature(str(path), checkpoint)
        assert str(path) in str(info.value)

    check()


def test_familiarity_beside_a_checkpoint(tmp_path):
    path = tmp_path / "familiarity.safetensors"
    reference = FeatureReference(np.zeros(3), np.eye(3), 1.0)
    Familiarity(("down_3", "down_4"), reference).save(path, "0" * 64)

    @examples(60)
    @given(damaged(path.read_bytes()))
    def test(content):
        path.write_bytes(content)
        try:
            familiarity, _ = Familiarity.load(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert familiarity.reference.mean.shape == (3,)

    test()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


STATE = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
KEYS = st.sampled_from(("weight", "bias", "x", 1, None, b"weight"))
TENSORS = st.builds(torch.ones, st.integers(0, 3), st.integers(0, 3))
VALUES = st.none() | st.integers() | st.text(max_size=4) | TENSORS


@examples(120)
@given(
    damaged(saved(STATE), header=1200)
    | st.dictionaries(KEYS, VALUES, max_size=4).map(saved)
    | st.dictionaries(KEYS, TENSORS, max_size=4).map(saved)
    | st.lists(VALUES, max_size=2).map(saved)
)
def test_checkpoint(folder, content):
    path = written(folder / "model.pt", content)
    for read in (read_checkpoint, lambda path: load_weights(torch.nn.Linear(3, 2), path)):
        try:
            read(path)
        except ValueError as error:
            assert str(path) in str(error)


class Stub:
    """Marks the brightest pixels, and gives every slice the same class."""

    of_head = True
    mask_names = ("tumour",)
    bundle = Path("seg_student")

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes

    def value(self, _name: str) -> Any:
        return [f"class {number}" for number in range(self.classes)]

    def __call__(self, image: np.ndarray, meta: dict[str, Any]) -> dict[str, Any]:
        pixels = torch.as_tensor(image.astype(np.float32))[None]
        if self.classes:
            slices = pixels[0].reshape(*pixels.shape[1:3], -1).shape[2]
            return {Keys.PRED: torch.full((self.classes, slices), 1 / self.classes), Keys.IMAGE: pixels}
        mask = MetaTensor((pixels == pixels.max()).to(torch.uint8), meta=dict(meta))
        return {Keys.PRED: mask, "probability": mask.float()}


NAMES = st.text(st.characters(), max_size=12) | st.text(
    st.sampled_from("aA.:\\\n\r\t\x00\x1b\x7f\x85\u202e\u2066\u200b\u2028\ufeff\ud800\udce9é😀<&\"'%=+-@|"), max_size=12
)


@pytest.mark.parametrize(
    ("suffix", "blob", "mend"),
    [
        pytest.param(".nii.gz", nifti(), packed, id="nifti"),
        pytest.param(".png", picture("png"), with_checksums, id="png"),
        pytest.param("", dicom(), as_it_is, id="dicom"),
    ],
)
def test_uploads(suffix, blob, mend):
    pytest.importorskip("starlette", reason="needs monai_kd[serve]")
    from monai_kd.serve.headers import TooManyPixels
    from monai_kd.serve.uploads import examine_uploads

    students = SimpleNamespace(segment=Stub(), classify=Stub(2))

    @examples(12)
    @given(st.lists(st.tuples(NAMES, damaged(blob)), min_size=1, max_size=2))
    def check(uploads: list[tuple[str, bytes]]) -> None:
        try:
            answers = examine_uploads([(n + suffix, io.BytesIO(mend(content))) for n, content in uploads], students)
        except TooManyPixels:
            return
        assert len(answers) in (1, len(uploads))  # of DICOM files both may be one series
        for answer in answers:
            assert answer["status"] in ("ok", "failed", "skipped")
            assert answer["file"].isprintable()
            assert "upload0" not in json.dumps(answer)

    check()


@pytest.mark.parametrize(
    ("suffix", "blob", "mend"),
    [
        pytest.param(".nii", nifti(3), as_it_is, id="nifti"),
        pytest.param(".nii.gz", nifti(), packed, id="nifti-packed"),
        pytest.param(".png", picture("png"), with_checksums, id="png"),
    ],
)
def test_exported_program(suffix, blob, mend, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="needs monai_kd[export]")
    from monai_kd.export import network_file, predict

    values = {"task": "segmentation", "upright": True, "image_size": 16, "mean": [0] * 3, "std": [1] * 3}
    values |= {"precision": "float32", "activation": "sigmoid", "threshold": 0.5}
    values |= {"labels": {"0": "background", "1": "tumour"}}
    values |= {"presence_score": "top_k_mean", "presence_threshold": None, "smallest_extent_mm": 3}
    values["presence_context"] = 1
    (tmp_path / "settings.json").write_text(json.dumps(values))
    monkeypatch.setattr(predict, "HERE", tmp_path)
    monkeypatch.setattr(network_file, "open_network", lambda *_args: lambda image: [image[:, :1]])
    path = tmp_path / f"slice{suffix}"
    monkeypatch.setattr(sys, "argv", ["predict.py", str(path), "--output_dir", str(tmp_path / "out"), "--overwrite"])

    @examples(30)
    @given(damaged(blob))
    def check(content: bytes) -> None:
        written(path, mend(content))
        failed = predict.main()
        said = capsys.readouterr()
        assert (
            (said.err.startswith(f"{path.name}: left out: ")) if failed else json.loads(said.out)["file"] == path.name
        )

    check()


FILE_NAMES = st.lists(
    st.tuples(
        (NAMES.map(lambda name: name.encode("utf-8", "ignore")) | st.binary(max_size=12)).map(
            lambda name: os.fsdecode(name.translate(None, b"/\0"))
        ),
        st.sampled_from((".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".dcm", ".mat", ".PNG", ".Nii.Gz", "")),
    ),
    min_size=1,
    max_size=6,
)


@examples(80)
@given(names=FILE_NAMES)
def test_names_of_inputs_and_outputs(names, tmp_path_factory):
    inputs_dir, outputs_dir = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    given_names = {stem + suffix for stem, suffix in names}
    for name in given_names - {".", "..", ""}:
        written(inputs_dir / name, dicom())
    inputs = InputFiles(inputs_dir, outputs_dir)
    try:
        images = inputs.images
    except ValueError as error:
        assert "holds no file of a supported kind" in str(error)
        assert all(name.startswith(".") or not name for name in given_names)
        return
    shown = [path.name for path in inputs_dir.iterdir() if not path.name.startswith(".")]
    assert sorted(path.name for image in images for path in image.paths) == sorted(shown)
    # Some file systems take names that differ in case for the same.
    assert len({image.name.lower() for image in images}) == len(images)
    for image in images:
        path = mask_path(inputs, image.label)
        assert path.resolve().is_relative_to(outputs_dir.resolve())
        assert inputs.labelled(image.label) is image
