"""The data set `folder` from a zip: one clear line for each that nobody should open."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, picture, tree, zipped

from fixtures import datasets
from fixtures.errors import DataError
from fixtures.packing import files as packing_files


@pytest.fixture(autouse=True)
def _cached(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path / "cache"))


def image() -> bytes:
    return encoded(picture(np.random.default_rng(0), 16), "PNG")


@pytest.fixture
def refused_zip(tmp_path):
    """The one line that a zip is refused with."""

    def load(path: Path) -> str:
        with pytest.raises(DataError) as error:
            datasets.load("folder", tmp_path, path=str(path))
        assert "\n" not in str(error.value)
        prefix = f"data set 'folder': {path}"
        assert str(error.value).startswith(prefix)
        return str(error.value).removeprefix(prefix)

    return load


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "train/../../x.png", "C:/x.png"])
def test_a_zip_whose_paths_lead_out_of_it_is_refused(refused_zip, tmp_path, name):
    path = zipped(tmp_path / "out.zip", {**tree(), name: image()})
    assert refused_zip(path) == f": the path {name!r} leads out of the zip"


def test_a_zip_that_would_inflate_to_a_multiple_is_refused(refused_zip, tmp_path):
    path = zipped(tmp_path / "bomb.zip", {**tree(), "train/cat/zeros.bmp": bytes(100_000_000)})
    assert refused_zip(path).endswith("times its size: a zip bomb")


def test_a_zip_with_one_huge_file_is_refused(refused_zip, tmp_path, monkeypatch):
    monkeypatch.setattr(packing_files, "LARGEST", 1 << 20)
    huge = np.random.default_rng(0).bytes(1 << 21)
    path = zipped(tmp_path / "huge.zip", {**tree(), "train/cat/huge.bmp": huge})
    assert "'train/cat/huge.bmp' would inflate to 2 MiB, over 1: a zip bomb" in refused_zip(path)


def test_a_zip_whose_files_overlap_is_refused(refused_zip, tmp_path):
    """Two entries of the directory name the same bytes, as in bombs without a ratio."""
    path = zipped(tmp_path / "overlap.zip", tree(), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    first, second = (m.start() for m in list(entries(data))[:2])
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    assert refused_zip(path).endswith("overlaps 'train/cat/000.png': a zip bomb")


def entries(data: bytes) -> Iterator[re.Match[bytes]]:
    """Those of the zip's directory."""
    return re.finditer(b"PK\x01\x02", data)


def test_an_encrypted_zip_is_refused(refused_zip, tmp_path):
    path = zipped(tmp_path / "secret.zip", tree())
    data = bytearray(path.read_bytes())
    for entry in entries(bytes(data)):
        data[entry.start() + 8] |= 1
    path.write_bytes(data)
    assert refused_zip(path) == " is encrypted ('train/cat/000.png')"


def test_another_compression_is_refused(refused_zip, tmp_path):
    path = zipped(tmp_path / "lzma.zip", tree(), zipfile.ZIP_LZMA)
    assert "is compressed by method 14; only stored and deflated" in refused_zip(path)


def test_a_zip_that_is_cut_short_is_refused(refused_zip, tmp_path):
    path = zipped(tmp_path / "cut.zip", tree())
    path.write_bytes(path.read_bytes()[:-30])
    assert "is neither a folder nor a whole zip" in refused_zip(path)


def test_a_damaged_file_in_a_zip_is_named(tmp_path):
    path = zipped(tmp_path / "damaged.zip", tree(), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train/cat/000.png cannot be read .*the zip is damaged"):
        datasets.load("folder", tmp_path, path=str(path))


def test_a_deflated_file_that_is_longer_than_it_says_is_not_inflated(tmp_path):
    path = zipped(tmp_path / "liar.zip", {**tree(), "train/cat/zeros.bmp": bytes(1_000_000)})
    data = bytearray(path.read_bytes())
    entry = next(
        m.start() for m in entries(bytes(data)) if b"zeros" in data[m.start() : m.start() + 80]
    )
    data[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"zeros.bmp cannot be read .*the zip is damaged"):
        datasets.load("folder", tmp_path, path=str(path), size=16)
