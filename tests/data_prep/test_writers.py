"""Encoded slices, by whichever library packs them."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest

from data_prep import writers


@pytest.mark.parametrize("library", ["zlib", "isal.isal_zlib"])
@pytest.mark.parametrize("kind", ["<i2", ">i2", "u1", "f4"])
def test_what_is_packed_does_not_depend_on_the_library(library, kind, monkeypatch):
    image = np.random.default_rng(0).integers(0, 200, (30, 20)).astype(kind)
    monkeypatch.setattr(writers, "packing", zlib)
    expected = gzip.decompress(writers.nifti_gz_bytes(image))
    assert expected[352:] == image.astype(image.dtype.newbyteorder("<")).tobytes()
    monkeypatch.setattr(writers, "packing", pytest.importorskip(library))
    packed = writers.nifti_gz_bytes(image)
    assert gzip.decompress(packed) == expected
    assert packed == writers.nifti_gz_bytes(image)
    # No time of day: gzip stores it in these bytes.
    assert packed[4:8] == bytes(4)
