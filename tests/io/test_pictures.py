"""PNG of every bit depth and kind of colour, and JPEG: values are those of the file, until they are scaled."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_kd.io import UnreadableImage, pictures, read_image
from monai_kd.io.pictures import picture_size

RANDOM = np.random.default_rng(0)
ROWS, COLUMNS = 5, 7


def png(path: Path, depth: int, kind: int, samples: np.ndarray, palette: bytes = b"") -> Path:
    """A PNG, written without Pillow: samples are (rows, columns × channels), each of ``depth`` bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    bits = np.unpackbits(samples.astype(">u2").view(np.uint8).reshape(*samples.shape, 2), axis=2)
    lines = [b"\0" + np.packbits(line[:, 16 - depth :].ravel()).tobytes() for line in bits]
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    header = struct.pack(">2I5B", samples.shape[1] // channels, samples.shape[0], depth, kind, 0, 0, 0)
    table = chunk(b"PLTE", palette) if palette else b""
    body = chunk(b"IHDR", header) + table + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def luminance(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    """ITU-R 601."""
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey(tmp_path, depth):
    stored = RANDOM.integers(0, 2**depth, (ROWS, COLUMNS))
    stored[0, :2] = 0, 2**depth - 1
    found = read_image(png(tmp_path / "a.png", depth, 0, stored))[0].T.astype(float)
    if depth == 16:
        np.testing.assert_array_equal(found, stored)
    np.testing.assert_allclose(found / found.max(), stored / (2**depth - 1), atol=1e-12)


def test_neighbouring_values_of_16_bits_are_kept_apart(tmp_path):
    stored = 40_000 + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(read_image(png(tmp_path / "a.png", 16, 0, stored))[0].T, stored)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette(tmp_path, depth):
    colours = RANDOM.integers(0, 256, (2**depth, 3)).astype(np.uint8)
    colours[:2] = [[0, 0, 0], [255, 200, 100]]
    stored = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 2**depth
    found = read_image(png(tmp_path / "a.png", depth, 3, stored, colours.tobytes()))[0].T
    np.testing.assert_allclose(found, luminance(*colours.astype(float).T)[stored], atol=1)


def test_colours_and_transparency_of_8_bits(tmp_path):
    colours = RANDOM.integers(0, 256, (ROWS, COLUMNS, 4))
    expected = luminance(*np.moveaxis(colours[..., :3], -1, 0))
    for kind, channels in ((2, 3), (6, 4)):
        path = png(tmp_path / "a.png", 8, kind, colours[..., :channels].reshape(ROWS, -1))
        np.testing.assert_allclose(read_image(path)[0].T, expected, atol=1)
    path = png(tmp_path / "a.png", 8, 4, colours[..., [0, 3]].reshape(ROWS, -1))
    np.testing.assert_array_equal(read_image(path)[0].T, colours[..., 0])


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bits_of_which_8_would_be_read_are_refused(tmp_path, kind, channels):
    stored = RANDOM.integers(0, 65536, (ROWS, COLUMNS * channels))
    with pytest.raises(UnreadableImage, match="16-bit colours or transparency: save it as 16-bit grey"):
        read_image(png(tmp_path / "a.png", 16, kind, stored))


def test_the_limit_is_ours_and_not_pillows(tmp_path, monkeypatch, recwarn):
    path = png(tmp_path / "a.png", 8, 0, RANDOM.integers(0, 256, (ROWS, COLUMNS)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    assert read_image(path)[0].size == ROWS * COLUMNS
    assert picture_size(path) == (COLUMNS, ROWS)
    assert Image.MAX_IMAGE_PIXELS == 4
    assert not [each for each in recwarn if issubclass(each.category, Image.DecompressionBombWarning)]
    with pytest.raises(UnreadableImage, match="35 pixels, more than the 34 that are read"):
        read_image(path, max_pixels=34)


def test_size_is_known_before_pixels_are_read(tmp_path):
    content = png(tmp_path / "a.png", 8, 0, RANDOM.integers(0, 256, (ROWS, COLUMNS))).read_bytes()
    header = struct.pack(">2I", 30_000, 30_000) + content[24:29]
    content = content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableImage, match="900,000,000 pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("colours", "said"), [([[255, 0, 0], [0, 200, 0]], True), ([[9, 9, 9], [200, 200, 200]], False)]
)
def test_colours_are_said_to_be_lost(colours, said, tmp_path, caplog):
    pictures._say_that_colours_are_lost.cache_clear()
    Image.fromarray(np.array([colours, colours], np.uint8)).save(tmp_path / "a.png")
    for _ in range(2):
        read_image(tmp_path / "a.png")
    assert caplog.text.count("pictures in COLOUR, of which only the brightness is used") == said
    assert "a.png" not in caplog.text
