"""Orthanc, a DICOM server, for a test."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from dicom_file import write_dicom_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

PLUGINS = [Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"), Path("/usr/lib/orthanc/libOrthancDicomWeb.so")]


def orthanc_is_here() -> bool:
    return shutil.which("Orthanc") is not None and any(plugin.exists() for plugin in PLUGINS)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _answer(address: str, posted: bytes | None = None) -> bytes:
    with urllib.request.urlopen(address, posted, timeout=60) as answer:
        return answer.read()


@contextmanager
def orthanc(folder: Path) -> Iterator[str]:
    """A server that keeps everything in a folder; its address."""
    port = _free_port()
    settings = {
        "HttpPort": port,
        "DicomPort": _free_port(),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin) for plugin in PLUGINS if plugin.exists()][:1],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with open(folder / "orthanc.log", "w") as log:
        process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                _answer(f"{address}/system")
                break
            except urllib.error.URLError:
                assert process.poll() is None, (folder / "orthanc.log").read_text()[-2000:]
                assert time.monotonic() < end, (folder / "orthanc.log").read_text()[-2000:]
                time.sleep(0.3)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def write_series(folder: Path, volume: np.ndarray, gap: float = 6.0) -> str:
    """An axial MR series of a volume, (columns, rows, slices); gives its SeriesInstanceUID."""
    folder.mkdir(parents=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for number in range(volume.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        path = folder / f"{number}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        data.is_little_endian, data.is_implicit_VR = True, False
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, study, frame
        data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Test^Case", "1", "19700101", "O"
        data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20200102", "101010", "1", "1"
        data.ReferringPhysicianName, data.Modality, data.Manufacturer = "", "MR", "none"
        data.SeriesNumber, data.InstanceNumber = 1, number + 1
        data.SliceThickness, data.SpacingBetweenSlices, data.PixelSpacing = gap, gap, [0.49, 0.49]
        data.ImagePositionPatient, data.ImageOrientationPatient = [-60, -70, 10 + gap * number], [1, 0, 0, 0, 1, 0]
        data.Columns, data.Rows = volume.shape[:2]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.PixelData = volume[..., number].T.astype("<i2").tobytes()
        write_dicom_file(path, data)
    return str(series)


def store(address: str, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        _answer(f"{address}/instances", path.read_bytes())


def segmentations(address: str) -> list[pydicom.Dataset]:
    """The DICOM SEG objects that the server has."""
    found = []
    for instance in json.loads(_answer(f"{address}/instances")):
        data = pydicom.dcmread(io.BytesIO(_answer(f"{address}/instances/{instance}/file")))
        if data.Modality == "SEG":
            found.append(data)
    return found
