"""The page's server: what it answers, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import base64
import errno
import gzip
import io
import logging
import select
import socket
import struct
import tempfile
import threading
import time
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_file import write_dicom_file
from enhanced import write_enhanced
from PIL import Image
from students import CLASS_NAMES, SIZE, classification_student, segmentation_student

from monai_kd.__main__ import main
from monai_kd.bundle.students import load_students
from monai_kd.inference import read_image
from monai_kd.serve import command, headers, uploads

testclient = pytest.importorskip("starlette.testclient", reason="needs monai_kd[serve]")

from monai_kd.serve.app import create_app  # noqa: E402

MOST_BYTES = 2**20
FORM = "multipart/form-data; boundary=x"
SECRETS = ("DOE^JANE", "ID-4711")
STRANGE = {
    "traversal": "../../../etc/passwd.png",
    "windows": "..\\..\\boot.png",
    "absolute": "/etc/cron.d/x.png",
    "markup": "<img src=x onerror=alert(1)>.png",
    "very long": "a" * 5000 + ".png",
    "line break": "a\r\nb.png",
    "no text": "caf\udce9.png",
    "dots": "...png",
    "hidden": ".png",
    "surrogates and direction": "\u202egnp.\ud83e\udde0.png",
}


def square(*shape: int, seed: int = 0) -> np.ndarray:
    """Columns and rows 8 to 15 are bright, and are what the network marks."""
    image = np.random.default_rng(seed).normal(100, 30, (SIZE, SIZE, *shape)).clip(0)
    image[8:16, 8:16] = 900
    return image.astype(np.int16)


def nifti(image: np.ndarray, packed: bool = True) -> bytes:
    content = nib.Nifti1Image(image, np.diag([-0.5, -0.75, 4.0, 1.0])).to_bytes()
    return gzip.compress(content) if packed else content


def picture(kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((square().T / 4).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def dicom(number: int = 0, series: str = "1.2.3", syntax: str = pydicom.uid.ExplicitVRLittleEndian, **more) -> bytes:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.3.{number + 1}"
    data.SeriesInstanceUID, data.Modality, data.PhotometricInterpretation = series, "MR", "MONOCHROME2"
    data.PatientName, data.PatientID = SECRETS
    data.PixelSpacing, data.ImageOrientationPatient = [0.5, 0.5], [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [0, 0, 4 * number]
    data.Rows, data.Columns, data.SamplesPerPixel = SIZE, SIZE, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = square(seed=number).T.tobytes()
    for name, value in more.items():
        setattr(data, name, value)
    buffer = io.BytesIO()
    write_dicom_file(buffer, data)
    return buffer.getvalue()


def huge_png() -> bytes:
    """A header of 30,000 × 30,000 pixels, and none of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def huge_nifti(packed: bool) -> bytes:
    """A header of 4096³ pixels, and none of them."""
    head = bytearray(nifti(square(), packed=False)[:352])
    head[40:48] = struct.pack("<4h", 3, 4096, 4096, 4096)
    return gzip.compress(bytes(head)) if packed else bytes(head)


def run_lengths(size: int) -> bytes:
    """A header of few pixels, and bytes of run-length codes of very many."""
    file = pydicom.dcmread(io.BytesIO(dicom()))
    file.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
    segment = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00" * (size // 2)
    file.PixelData = pydicom.encaps.encapsulate([segment])
    file["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    write_dicom_file(buffer, file)
    return buffer.getvalue()


def gzip_bomb(size: int) -> bytes:
    """A good slice with a header extension of that many zeros: some kB that unpack to ``size`` bytes."""
    good = nifti(square(), packed=False)
    head = bytearray(good[:352])
    head[108:112], head[348] = struct.pack("<f", 352 + size), 1
    return gzip.compress(bytes(head) + struct.pack("<2i", size, 6) + bytes(size - 8) + good[352:])


def deflated_bomb() -> bytes:
    """A good slice packed as a whole, with 300 MB of nothing in its header."""
    return dicom(syntax=pydicom.uid.DeflatedExplicitVRLittleEndian, ImageComments="x" * (300 * 2**20))


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    return load_students(
        segmentation_student(tmp_path_factory.mktemp("segmentation"), preset="demo"),
        classification_student(tmp_path_factory.mktemp("classification")),
        device="cpu",
    )


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary files go; nothing may be left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def client(students, temporary):
    yield testclient.TestClient(create_app(students, MOST_BYTES, command.LOCAL), base_url="http://localhost")
    assert list(temporary.iterdir()) == []


def upload(client, *files: tuple[str, bytes], **headers: str):
    return client.post("/slices", files=[("files", file) for file in files], headers=headers)


def one(answer) -> dict:
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["files"]
    assert row["status"] == "ok"
    return row


def test_a_page_names_what_the_network_marks(students, tmp_path):
    lesions = segmentation_student(tmp_path, mask_names=["lesion"])
    others = load_students(lesions, students.classify.checkpoint, device="cpu")
    client = testclient.TestClient(create_app(others, MOST_BYTES, command.LOCAL), base_url="http://localhost")
    assert "0.5 on the probability of lesion" in client.get("/").text
    assert one(upload(client, ("a.nii.gz", nifti(square()))))["finds"] == "lesion"
    assert "tumour" not in client.get("/serve.js").text.replace("row.tumour", "").replace("slices_with_tumour", "")


@pytest.mark.parametrize(
    ("name", "content", "area", "mask_name"),
    [
        ("a.nii.gz", nifti(square()), 24.0, "a_mask.nii.gz"),
        ("a.b.nii", nifti(square(), packed=False), 24.0, "a.b_mask.nii"),
        ("A.PNG", picture(), None, "A_mask.png"),
        ("a.jpg", picture("jpeg"), None, "a_mask.png"),
        ("a.dcm", dicom(), 16.0, "a_mask.nii.gz"),
        ("IM0001", dicom(), 16.0, "IM0001_mask.nii.gz"),
    ],
)
def test_one_slice(name, content, area, mask_name, client, students, tmp_path):
    row = one(upload(client, (name, content)))
    assert (row["file"], row["tumour"], row.get("area_mm2")) == (name, "yes", area)
    assert list(row["probabilities"]) == CLASS_NAMES
    assert row["probabilities"][row["class"]] == max(row["probabilities"].values()) == row["probability"]
    kind, data = row["picture"].split(",")
    assert kind == "data:image/jpeg;base64"
    array = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert (array[..., 0] - array[..., 2] > 60).sum() > 50  # the outline
    assert row["mask"]["name"] == mask_name
    assert row["uncertain"] == ("yes" if row["probability"] < 0.6 else "no")
    # These files have no place: DICOM and NIfTI lie at the origin or nowhere, pictures have none.
    assert row["oriented"] is (row["view"]["marks"] is not None)
    size = [row["view"][name] for name in ("columns", "rows", "slices")]
    assert size == [SIZE, SIZE, 1]
    assert "dicom_seg" not in row
    file, mask_file = tmp_path / name, tmp_path / mask_name
    file.write_bytes(content)
    mask_file.write_bytes(base64.b64decode(row["mask"]["content"]))
    expected = np.asarray(students.segment(*read_image(file))["pred"])[0].squeeze()
    np.testing.assert_array_equal(read_image(mask_file)[0].squeeze() > 0, expected > 0)
    assert expected[8:16, 8:16].all()


def test_the_files_of_a_series_are_one_volume_and_others_are_not(client):
    files = [(f"{number}.dcm", dicom(number)) for number in (2, 0, 1)]
    answer = upload(client, *files, ("other.dcm", dicom(series="1.2.4")), ("a.nii.gz", nifti(square(3))))
    rows = {row["file"]: row for row in answer.json()["files"]}
    assert {name: row["slices"] for name, row in rows.items()} == {"2.dcm and 2 more": 3, "other.dcm": 1, "a.nii.gz": 3}
    assert rows["2.dcm and 2 more"]["volume_mm3"] == pytest.approx(3 * 64 * 0.25 * 4)
    assert sum(rows["a.nii.gz"]["votes"].values()) == 3


def test_a_file_of_several_volumes(client, tmp_path):
    phases = [
        {"image": square(seed=number).T, "position": (0, 0, 4 * number), "phase": phase}
        for phase in (1, 2)
        for number in range(3)
    ]
    content = write_enhanced(tmp_path / "exam.dcm", phases).read_bytes()
    rows = {row["file"]: row for row in upload(client, ("exam.dcm", content), ("a.png", picture())).json()["files"]}
    assert list(rows) == ["exam.dcm/phase-1", "exam.dcm/phase-2", "a.png"]
    assert [row["slices"] for row in rows.values()] == [3, 3, 1]
    assert [row["mask"]["name"] for row in rows.values()][:2] == [f"exam_phase-{n}_mask.nii.gz" for n in (1, 2)]


def test_nothing_of_a_dicom_header_is_said(client, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        text = upload(client, ("private.dcm", dicom()), ("private2.dcm", dicom(Modality="CT"))).text
    assert "private2.dcm is of modality CT" in text
    said = text + caplog.text + "".join(capfd.readouterr())
    assert not any(secret in said for secret in SECRETS)
    assert "private" not in said.replace(text, "")
    assert "upload00" not in text


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_names_are_shown_and_never_used(name, client, temporary):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="'
        + name.encode("utf-8", "surrogatepass").replace(b"\r\n", b"%0D%0A")
        + b'"\r\n\r\n'
        + picture()
        + b"\r\n--x--\r\n"
    )
    answer = client.post("/slices", content=body, headers={"content-type": FORM})
    if answer.status_code == 400:
        assert set(answer.json()) == {"error"}  # the form parser takes no such header
        return
    row = one(answer)
    for shown in (row["file"], row["mask"]["name"]):
        assert not set("/\\\r\n\0") & set(shown)
        assert len(shown) < 150
        assert shown.isprintable()


def test_nul_in_a_name(client):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a\0.png"\r\n\r\n' + picture()
    answer = client.post("/slices", content=body + b"\r\n--x--\r\n", headers={"content-type": FORM})
    assert answer.status_code == 400 or one(answer)["file"] == "a.png"


REFUSED = {
    "empty": (("a.png", b""), 422, "the file is empty"),
    "empty, any name": (("a", b""), 415, "it is none of NIfTI"),
    "text": (("notes.txt", b"of a doctor"), 415, "it is none of NIfTI"),
    "web page": (("a.html", b"<script>alert(1)</script>"), 415, "it is none of NIfTI"),
    "text as a picture": (("a.png", b"of a doctor"), 422, "can't be read as a picture"),
    "other picture": (("a.png", picture("gif")), 422, "can't be read as a picture"),
    "postscript": (("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), 422, "can't be read as a picture"),
    "truncated picture": (("a.png", picture()[:-200]), 422, "truncated or damaged"),
    "truncated NIfTI": (("a.nii.gz", nifti(square())[:-200]), 422, "truncated or damaged"),
    "truncated DICOM": (("a.dcm", dicom()[:600]), 422, "a.dcm"),
    "constant": (("a.nii.gz", nifti(np.ones((9, 9), np.int16))), 422, "is constant"),
    ".mat": (("a.mat", b"MATLAB 5.0 MAT-file"), 415, "accepts no .mat files"),
    "4-D": (("a.nii", nifti(np.zeros((4, 4, 2, 2), np.int16), packed=False)), 422, "has 4 axes"),
    "multi-frame": (("a.dcm", dicom(NumberOfFrames=7)), 422, "is multi-frame"),
    "deflated": (("a.dcm", deflated_bomb()), 413, "34 million pixels"),
    "huge PNG": (("a.png", huge_png()), 413, "34 million pixels"),
    "huge NIfTI": (("a.nii", huge_nifti(packed=False)), 413, "34 million pixels"),
    "huge packed NIfTI": (("a.nii.gz", huge_nifti(packed=True)), 413, "34 million pixels"),
    "huge DICOM": (("a.dcm", dicom(Rows=60_000, Columns=60_000)), 413, "34 million pixels"),
    "many small slices": (
        ("a.nii.gz", nifti(np.arange(8 * 8 * 600, dtype=np.int16).reshape(8, 8, 600))),
        413,
        "34 million pixels",
    ),
    "negative frames": (("a.dcm", dicom(NumberOfFrames=-1, Rows=6000, Columns=6000)), 413, "34 million pixels"),
    "too big": (("a.png", bytes(MOST_BYTES)), 413, "bigger than the 1 MB"),
}


@pytest.mark.parametrize(("file", "status", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_with_a_reason(file, status, reason, client, temporary):
    answer = upload(client, file)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    error = answer.json()["error"]
    assert reason in error
    assert "\n" not in error
    assert str(temporary) not in answer.text


def test_extensions_are_not_read(client):
    bomb = gzip_bomb(2**26)
    assert len(bomb) < 2**17
    answer = upload(client, ("a.nii.gz", bomb))
    assert answer.status_code == 422
    assert "bytes of extensions are read" in answer.json()["error"]


def test_deflated_as_a_whole(client):
    one(upload(client, ("a.dcm", dicom(syntax=pydicom.uid.DeflatedExplicitVRLittleEndian))))


def test_run_lengths_are_bounded_before_they_are_read(client, monkeypatch):
    monkeypatch.setattr(headers, "MOST_PIXELS", SIZE * SIZE)
    answer = upload(client, ("a.dcm", run_lengths(2**19)))
    assert answer.status_code == 422
    assert "is run-length encoded and bigger than" in answer.json()["error"]
    assert "run-length" not in upload(client, ("a.dcm", run_lengths(2**12))).text


def test_one_file_does_not_pay_for_another(client):
    """A frame count below zero took as many pixels off the sum."""
    negative = dicom(NumberOfFrames=-1, Rows=5000, Columns=5000)
    wide = np.zeros((6000, 6000), np.int16)
    wide[:9] = 7
    wide = nifti(wide)
    assert len(wide) + len(negative) < MOST_BYTES
    assert upload(client, ("a.dcm", negative), ("b.nii.gz", wide)).status_code == 413


def test_pixels_are_counted_over_all_files(client, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_PIXELS", 3 * SIZE * SIZE)
    files = [(f"{number}.dcm", dicom(number)) for number in range(4)]
    assert upload(client, *files[:3]).status_code == 200
    assert upload(client, *files).status_code == 413


def test_a_body_without_a_length_is_cut_off(client):
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        yield from [bytes(2**16)] * 64

    answer = client.post("/slices", content=body(), headers={"content-type": FORM})
    assert answer.status_code == 413


@pytest.mark.parametrize("trickles", [False, True])
def test_an_upload_that_stops_coming_is_given_up(trickles, students, temporary, monkeypatch):
    """Over a real socket: the connection is answered and closed, and nothing waits for the rest."""
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr("monai_kd.serve.app.LONGEST_SILENCE", 0.3)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(students, MOST_BYTES, command.LOCAL), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with socket.create_connection(listening.getsockname(), timeout=20) as connection:
            head = f"POST /slices HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode() + b'--x\r\nContent-Disposition: form-data; name="files"; filen')
            if trickles:
                began = time.monotonic()
                while not select.select([connection], [], [], 0.1)[0]:
                    assert time.monotonic() - began < 5
                    connection.sendall(b"a")
            answer = b"".join(iter(lambda: connection.recv(2**16), b""))
    finally:
        server.should_exit = True
        thread.join()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"nothing more of the upload came for 0.3 seconds" in answer
    assert not list(temporary.iterdir())


def test_uploads_at_a_time_are_bounded(students, temporary, monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def slow(contents, students):
        entered.set()
        leave.wait(20)
        return [{"file": "a", "status": "skipped", "reason": "slow"}]

    monkeypatch.setattr("monai_kd.serve.app.MOST_UPLOADS", 1)
    monkeypatch.setattr("monai_kd.serve.app.examine_uploads", slow)
    app = create_app(students, MOST_BYTES, command.LOCAL)
    with testclient.TestClient(app, base_url="http://localhost") as client:
        first = threading.Thread(target=upload, args=(client, ("a.png", b"x")))
        first.start()
        assert entered.wait(20)
        refused = upload(client, ("b.png", b"x"))
        assert client.get("/health").status_code == 200
        leave.set()
        first.join()
        assert (refused.status_code, upload(client, ("b.png", b"x")).status_code) == (503, 415)
    assert "1 uploads are in progress" in refused.json()["error"]


def test_a_full_disk_is_named(client, monkeypatch):
    def full(contents, students):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/monai_kd-serve-x/in/upload0000.png")

    monkeypatch.setattr("monai_kd.serve.app.examine_uploads", full)
    answer = upload(client, ("a.png", picture()))
    assert (answer.status_code, answer.json()["error"]) == (507, "the disk of the server is full")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "text/plain", 415),
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data", 400),  # no boundary
        (b"garbage", FORM, 400),
        (b"--x--\r\n", FORM, 422),  # no file
        (b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--x--\r\n', FORM, 400),  # no file name
        (b"--x\r\n\r\nx\r\n--x--\r\n", FORM, 400),
    ],
)
def test_forms_that_are_none(content, kind, status, client):
    answer = client.post("/slices", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://[a-name]"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
    ],
)
def test_other_sites_may_not_ask(sent, status, client):
    assert upload(client, ("a.png", picture()), **sent).status_code == status


def test_long_headers_are_refused(client):
    answer = client.get("/health", headers={"X": "a" * 2**15})
    assert (answer.status_code, answer.json()) == (431, {"error": "the headers are too long"})
    assert "content-security-policy" in answer.headers
    assert client.get("/health", headers={"X": "a" * 2**12}).status_code == 200


def test_what_is_wrong_with_a_form_is_not_logged(client, caplog):
    with caplog.at_level("DEBUG"):
        answer = client.post("/slices", content=b"secret", headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 400
    assert not [record for record in caplog.records if record.name.startswith("python_multipart")]


def test_the_page(client, students):
    answer = client.get("/")
    assert "Not a medical device" in answer.text
    assert "SYNTHETIC:</strong> the segmentation network\nwas trained" in answer.text
    assert students.checkpoints["classification"].sha256 in answer.text
    assert str(students.segment.checkpoint.parent) not in answer.text
    for path in ("/", "/serve.js", "/serve.css", "/page.css", "/health", "/absent"):
        answer = client.get(path)
        assert answer.status_code == (404 if path == "/absent" else 200)
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in answer.text
    for path in ("/../setup.cfg", "/%2e%2e/setup.cfg", "/..%2fcommand.py", "/command.py", "//etc/passwd"):
        assert client.get(path).status_code == 404
    assert client.get("/slices").status_code == 405


def test_it_answers_while_one_network_runs_at_a_time(client, monkeypatch):
    running, most = [], []

    def slow(contents, students):
        running.append(1)
        most.append(len(running))
        time.sleep(0.3)
        running.pop()
        return [{"file": "a", "status": "skipped", "reason": "slow"}]

    monkeypatch.setattr("monai_kd.serve.app.examine_uploads", slow)
    with client:
        threads = [threading.Thread(target=upload, args=(client, ("a.png", b"x"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        began = time.monotonic()
        assert client.get("/health").json()["status"] == "ok"
        assert time.monotonic() - began < 0.3
        for thread in threads:
            thread.join()
    assert most == [1, 1, 1]


def test_an_unforeseen_error_is_answered_and_says_nothing_of_the_file(client, monkeypatch, caplog):
    def fails(contents, students):
        raise RuntimeError("DOE^JANE in private.png")

    monkeypatch.setattr("monai_kd.serve.app.examine_uploads", fails)
    answer = upload(client, ("private.png", picture()))
    said = "the server failed on this upload (RuntimeError), and continues to run"
    assert (answer.status_code, answer.json()["error"]) == (500, said)
    assert "RuntimeError at" in caplog.text
    assert "DOE" not in caplog.text
    assert "private" not in caplog.text
    monkeypatch.undo()


def garbage() -> list[tuple[str, bytes]]:
    """A hundred files that are no slice: noise, cut and with bytes changed, under names of every kind."""
    random = np.random.default_rng(0)
    good = {"a.png": picture(), "a.jpg": picture("jpeg"), "a.nii": nifti(square(), packed=False)}
    good |= {"a.nii.gz": nifti(square()), "a.dcm": dicom(), "IM0001": dicom()}
    files = [(name, random.bytes(int(size))) for name in good for size in (1, 131, 353, 5000)]
    for name, content in good.items():
        files += [(name, content[: int(len(content) * share)]) for share in (0.05, 0.2, 0.5, 0.9)]
        for _ in range(8):
            changed = np.frombuffer(content, np.uint8).copy()
            changed[random.integers(0, min(400, changed.size), 12)] = random.integers(0, 256, 12)
            files.append((name, changed.tobytes()))
    zipped = gzip.compress(b"PK\x03\x04" + bytes(2**20))
    files += [("bomb.zip", zipped), ("bomb.nii.gz", zipped), ("a.png", huge_png()), ("a.nii", huge_nifti(False))]
    return files


def test_a_hundred_garbage_uploads_leave_it_running(client, caplog, capfd):
    files = garbage()
    assert len(files) == 100
    good = one(upload(client, ("good.nii.gz", nifti(square()))))
    statuses = [upload(client, file).status_code for file in files]
    assert set(statuses) <= {200, 413, 415, 422}  # some changed bytes leave a slice that can be read
    assert statuses.count(200) < 30
    assert one(upload(client, ("good.nii.gz", nifti(square())))) == good
    assert "bomb" not in caplog.text + "".join(capfd.readouterr())


def given(folder: Path) -> list[str]:
    return [
        *("--segmentation", str(segmentation_student(folder / "s"))),
        *("--classification", str(classification_student(folder / "c"))),
        *("--device", "cpu"),
    ]


def test_one_clear_error(tmp_path, capsys, monkeypatch):
    for more, message in {
        ("--host", "256.1.1.1", "--port", "0"): "can't listen there",
        ("--port", "70000"): "can't listen there",
        ("--port", "0", "--max_upload_mb", "0"): "--max_upload_mb must be a positive number",
        ("--port", "0", "--max_upload_mb", "inf"): "--max_upload_mb must be a positive number",
        ("--port", "0"): "there is no checkpoint",
    }.items():
        assert main(["serve", "--segmentation", "absent.pt", "--classification", "absent.pt", *more]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ")
        assert message in error
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else object())
    assert main(["serve", "--segmentation", "absent.pt", "--classification", "absent.pt"]) == 2
    assert "serve needs uvicorn: pip install 'monai_kd[serve]'." in capsys.readouterr().err


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_warning_where_other_computers_are_let_in(host, warned, tmp_path, capsys, monkeypatch):
    import uvicorn

    for name in ("s", "c"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    assert main(["serve", "--host", host, "--port", "0", *given(tmp_path)]) == 0
    said = capsys.readouterr()
    assert f"Open http://{host}:" in said.out
    assert ("no password and no encryption" in said.err) == warned
