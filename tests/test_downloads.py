"""CIFAR and GTSRB: from the data folder or downloaded, and what may be wrong with their files."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encoded, lay, picture

from fixtures import datasets
from fixtures.datasets import gtsrb
from fixtures.datasets.base import NotThere
from fixtures.errors import DataError

CIFAR = {
    "cifar10": ("CIFAR10", "labels", "batches.meta", "label_names", 10),
    "cifar100": ("CIFAR100", "fine_labels", "meta", "fine_label_names", 100),
}
IMAGES = 300
"""In each batch."""


def batch(name: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(number)
    classes = CIFAR[name][4]
    return random.integers(0, 256, (IMAGES, 3072), dtype=np.uint8), np.arange(IMAGES) % classes


@pytest.fixture(params=CIFAR)
def cifar(request, tmp_path, monkeypatch) -> tuple[str, Path]:
    """Batches like the published ones, and their MD5 in the place of the published one."""
    import torchvision

    name = request.param
    reader_name, labels, meta, names, classes = CIFAR[name]
    reader = getattr(torchvision.datasets, reader_name)
    folder = tmp_path / reader.base_folder
    folder.mkdir()
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    files = [(part, file) for part in lists for file, _ in getattr(reader, part)]
    for number, (part, file) in enumerate(files):
        pixels, found = batch(name, number)
        content = pickle.dumps({"data": pixels, labels: found.tolist()})
        lists[part].append([file, hashlib.md5(content).hexdigest()])
        (folder / file).write_bytes(content)
    content = pickle.dumps({names: [f"class {k}" for k in range(classes)]})
    (folder / meta).write_bytes(content)
    for part, written in lists.items():
        monkeypatch.setattr(reader, part, written)
    monkeypatch.setattr(
        reader, "meta", {"filename": meta, "key": names, "md5": hashlib.md5(content).hexdigest()}
    )

    def refuse(*_, **__):
        raise RuntimeError("the network is down\nand stays so")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    return name, folder


def test_cifar_is_read_as_it_was_written(cifar):
    name, folder = cifar
    found = datasets.load(name, folder.parent)
    assert found.shape == (3, 32, 32)
    assert found.classes == tuple(f"class {k}" for k in range(CIFAR[name][4]))
    assert found.flips
    batches = sum(1 for file in folder.iterdir() if "meta" not in file.name)
    pixels, labels = batch(name, batches - 1)
    assert torch.equal(
        found.test.bytes(torch.arange(IMAGES)), torch.from_numpy(pixels).view(-1, 3, 32, 32)
    )
    assert found.test.labels.tolist() == labels.tolist()


class Bomb:
    """Notes that it was unpickled."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def __reduce__(self):
        return Path.touch, (self.note,)


def test_batches_whose_md5_is_not_the_published_one_are_never_unpickled(cifar, tmp_path):
    name, folder = cifar
    for file in folder.iterdir():
        file.write_bytes(pickle.dumps(Bomb(tmp_path / "unpickled")))
    with pytest.raises(DataError) as error:
        datasets.load(name, folder.parent)
    assert str(error.value) == (
        f"data set {name!r}: a file in {folder} is damaged: its MD5 is not the published one; "
        "delete the folder to download it again"
    )
    assert not (tmp_path / "unpickled").exists()


def test_a_batch_that_is_missing_is_named(cifar):
    name, folder = cifar
    (first, *_) = (file for file in sorted(folder.iterdir()) if "test" in file.name)
    first.unlink()
    with pytest.raises(DataError) as error:
        datasets.load(name, folder.parent)
    assert not isinstance(error.value, NotThere)
    assert str(error.value) == (
        f"data set {name!r}: {first} is missing and could not be downloaded (the network is down); "
        f"give the folder that holds {folder.name} with --data-dir"
    )


def test_what_is_not_there_and_cannot_be_downloaded_is_one_line(cifar, tmp_path):
    name, folder = cifar
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotThere) as error:
        datasets.load(name, tmp_path / "empty")
    assert str(error.value) == (
        f"data set {name!r} is not in {tmp_path / 'empty'} and could not be downloaded "
        f"(the network is down); give the folder that holds {folder.name} with --data-dir"
    )


@pytest.fixture
def signs(tmp_path, monkeypatch) -> Path:
    """Three training images and one test image of each sign, of several sizes."""
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gtsrb, "COUNTS", {gtsrb.TRAINING: 129, gtsrb.TEST: 43})
    random = np.random.default_rng(0)
    files = {}
    for label in range(43):
        for n in range(3):
            image = picture(random, 20 + label)
            name = f"{gtsrb.TRAINING}/{label:05}/{n:05}_00000.ppm"
            files[name] = encoded(image.resize((20 + label, 25 + label)), "PPM")
        files[f"{gtsrb.TRAINING}/{label:05}/GT-{label:05}.csv"] = b"Filename;ClassId\n"
        files[f"{gtsrb.TEST}/{label:05}.ppm"] = encoded(picture(random, 30), "PPM")
    rows = [f"{n:05}.ppm;30;30;0;0;29;29;{42 - n}" for n in range(43)]
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    files[gtsrb.LABELS] = "\n".join([header, *rows]).encode()
    return lay(tmp_path / "gtsrb", files)


def test_traffic_signs_are_read_by_folder_and_by_table(signs):
    found = datasets.load("gtsrb", signs.parent)
    assert found.shape == (3, 32, 32)
    assert len(found.classes) == 43
    assert not found.flips
    assert found.test.labels.tolist() == list(range(42, -1, -1))
    assert len(found.train) + len(found.clean) + len(found.validation) == 129


def test_traffic_signs_come_in_the_size_that_is_asked_for(signs):
    assert datasets.load("gtsrb", signs.parent, size=16).shape == (3, 16, 16)


def test_an_unpacking_that_was_interrupted_is_one_line(signs):
    (signs / gtsrb.TRAINING / "00007" / "00001_00000.ppm").unlink()
    with pytest.raises(DataError) as error:
        datasets.load("gtsrb", signs.parent)
    assert str(error.value) == (
        f"data set 'gtsrb': {signs / gtsrb.TRAINING} holds 128 images, expected 129; "
        "delete it to download it again"
    )


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            "Filename;ClassId\n00000.ppm;42\n",
            "Images/00001.ppm has no class from 0 to 42",
        ),
        ("Filename\n00000.ppm\n", "GT-final_test.csv is no table of labels ('ClassId')"),
        ("Filename;ClassId\n00000.ppm;x\n", "is no table of labels (invalid literal for int()"),
    ],
)
def test_a_table_of_labels_that_does_not_do_is_one_line(signs, table, line):
    (signs / gtsrb.LABELS).write_text(table)
    with pytest.raises(DataError) as error:
        datasets.load("gtsrb", signs.parent)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_traffic_signs_that_are_not_there_and_cannot_be_downloaded(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("timed out")

    monkeypatch.setattr("torchvision.datasets.gtsrb.download_and_extract_archive", refuse)
    with pytest.raises(NotThere, match=r"'gtsrb' is not in .* could not be downloaded .timed out"):
        datasets.load("gtsrb", tmp_path)
