"""The data set `folder`: the layouts it reads, and one clear line for each that it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import encoded, lay, picture, pixels, tree, zipped
from PIL import Image

from fixtures import datasets
from fixtures.errors import DataError


@pytest.fixture(autouse=True)
def _cached(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def loaded(tmp_path):
    """The data set of a tree of files, laid out in a folder."""

    def load(files, **params) -> datasets.Dataset:
        path = lay(tmp_path / "given", files)
        return datasets.load("folder", tmp_path, path=str(path), **params)

    return load


@pytest.fixture
def refused(loaded):
    """The one line that a tree of files is refused with."""

    def load(files, **params) -> str:
        with pytest.raises(DataError) as error:
            loaded(files, **params)
        assert "\n" not in str(error.value)
        return str(error.value)

    return load


def image(*, kind: str = "PNG", side: int = 16, mode: str = "RGB", seed: int = 0) -> bytes:
    return encoded(picture(np.random.default_rng(seed), side).convert(mode), kind)


def test_a_tree_becomes_a_data_set_of_four_splits(loaded):
    found = loaded(tree(train=40, test=3))
    assert found.classes == ("cat", "dog")
    assert found.shape == (3, 16, 16)
    assert [len(s) for s in (found.train, found.clean, found.validation, found.test)] == [
        72, 4, 4, 6,
    ]  # fmt: skip


@pytest.mark.parametrize("held_out", ["test", "val"])
@pytest.mark.parametrize("top", ["", "inner/"])
def test_the_test_split_is_called_test_or_val_and_all_may_lie_in_one_folder(loaded, held_out, top):
    files = tree(held_out=held_out)
    found = loaded({f"{top}{name}": content for name, content in files.items()})
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    expected = torch.from_numpy(np.stack(list(pixels(files))[-4:]))
    assert torch.equal(found.test.bytes(torch.arange(4)), expected)


def test_an_unlabelled_test_folder_is_passed_over_as_in_imagenet(loaded):
    found = loaded({**tree(held_out="val"), "test/0001.png": image(), "test/0002.png": image()})
    assert len(found.test) == 4


def test_tiny_imagenet_is_read_by_its_annotations(loaded):
    train = {
        f"train/{name}/images/{name}_{n}.JPEG": image(kind="JPEG", seed=n)
        for name in ("n01", "n02")
        for n in range(5)
    }
    boxes = {
        f"train/{name}/{name}_boxes.txt": b"n01_0.JPEG\t0\t0\t9\t9\n" for name in ("n01", "n02")
    }
    val = {f"val/images/val_{n}.JPEG": image(kind="JPEG", seed=20 + n) for n in range(4)}
    notes = "".join(f"val_{n}.JPEG\tn0{2 - n % 2}\t0\t0\t9\t9\n" for n in range(4))
    unlabelled = {"test/images/test_0.JPEG": image(kind="JPEG")}
    tables = {"val/val_annotations.txt": notes.encode(), "wnids.txt": b"n01\nn02\n"}
    found = loaded({**train, **boxes, **val, **unlabelled, **tables})
    assert found.classes == ("n01", "n02")
    assert len(found.train) + len(found.clean) + len(found.validation) == 10
    assert found.test.labels.tolist() == [0, 0, 1, 1]  # the odd ones first


def test_an_image_that_tiny_imagenets_annotations_leave_out_is_named(refused):
    train = {f"train/{name}/images/0.png": image() for name in ("n01", "n02")}
    said = refused(
        {**train, "val/images/a.png": image(), "val/val_annotations.txt": b"b.png\tn01\n"}
    )
    assert said.endswith("val/images/a.png has no class in val/val_annotations.txt")


def test_hidden_files_are_no_images(loaded, tmp_path):
    files = tree()
    more = {".DS_Store": b"x", "train/cat/.hidden": b"x", "__MACOSX/train/cat/._000.png": b"x"}
    found = loaded({**files, **more})
    same = datasets.load(
        "folder", tmp_path, path=str(zipped(tmp_path / "a.zip", {**files, **more}))
    )
    assert len(found.train) == len(same.train) == 8


def test_a_path_is_one_from_here_or_else_from_the_data_folder(tmp_path, monkeypatch):
    lay(tmp_path / "data" / "mine", tree())
    monkeypatch.chdir(tmp_path)
    assert len(datasets.load("folder", tmp_path / "data", path="mine").train) == 8
    lay(tmp_path / "mine", tree(train=5))
    assert len(datasets.load("folder", tmp_path, path="mine").train) == 6


def test_grey_images_have_one_channel(loaded):
    assert loaded(tree(grey=True)).shape == (1, 16, 16)


def test_one_image_in_colour_among_grey_ones_makes_all_colour(loaded, caplog):
    """It lies where none of those that are looked at beforehand does."""
    files = tree(grey=True, train=150)
    files["train/cat/101.png"] = image(seed=5)
    found = loaded(files)
    assert found.shape == (3, 16, 16)
    assert caplog.messages == [
        "data set 'folder': of 304 images 303 were converted to 8-bit colour (grey 303)"
    ]


def test_mixed_sizes_need_one_to_resize_to(refused, loaded, caplog):
    files = {**tree(), "train/dog/000.png": image(side=20)}
    assert refused(files, name="pets") == (
        "data set 'folder': images of several sizes, 16x16 and 20x20 (train/dog/000.png); "
        "give one to resize them to: folder+size=64"
    )
    assert loaded(files, size=16).shape == (3, 16, 16)
    assert caplog.messages == [
        "data set 'folder': of 16 images 1 were resized, the longer side cropped, to 16x16"
    ]


def test_another_size_that_is_met_only_while_packing_is_named_too(refused):
    files = {**tree(train=150), "train/cat/101.png": image(side=20)}
    assert "16x16 and 20x20 (train/cat/101.png)" in refused(files)


def test_other_modes_and_16_bit_images_are_converted_and_said_once(loaded, caplog):
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    files = {
        **tree(),
        "train/cat/000.png": image(mode="RGBA"),
        "train/cat/001.png": image(mode="P"),
        "train/cat/002.png": encoded(Image.fromarray(deep), "PNG"),
        "train/cat/003.jpg": image(kind="JPEG", mode="CMYK"),
        "train/cat/004.png": image(mode="L"),
    }
    loaded(files)
    assert caplog.messages == [
        "data set 'folder': of 17 images 5 were converted to 8-bit colour "
        "(16-bit 1, CMYK 1, P 1, RGBA 1, grey 1)"
    ]


def test_16_bits_are_scaled_to_8_and_rounded(tmp_path):
    deep = np.array([[0, 128, 129, 257, 32768, 65407, 65406, 65535]], np.uint16).repeat(8, axis=0)
    lay(tmp_path / "deep", dict.fromkeys(tree(train=3), encoded(Image.fromarray(deep), "PNG")))
    found = datasets.load("folder", tmp_path, path=str(tmp_path / "deep"))
    assert found.test.bytes(torch.tensor([0]))[0, 0, 0].tolist() == [0, 0, 1, 1, 128, 255, 254, 255]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, "{path} holds no images"),
        (
            {"a.txt": b""},
            "{path} holds no train/CLASS/*, at its top or in one folder there; it holds a.txt",
        ),
        ({"train/0.png": image()}, "{path}: train holds no images in folders named by class"),
        (tree(classes=("cat",)), "{path}: one class only, 'cat'; two are needed"),
        (tree(test=0), "{path}: there is no test/CLASS/* nor val/CLASS/*"),
        ({**tree(), "train/eel/0.png": image()}, "{path}: class 'eel' is in train and not in test"),
        ({**tree(), "test/eel/0.png": image()}, "{path}: class 'eel' is in test and not in train"),
        (
            {**tree(held_out="val"), **{f"val/{n}/0.png": image() for n in "efghi"}},
            "{path}: 5 classes ('e', 'f', 'g', ...) are in val and not in train",
        ),
    ],
    ids=lambda given: given.partition(": ")[2] or given if isinstance(given, str) else "",
)
def test_a_tree_that_is_no_data_set_is_one_line(refused, tmp_path, files, line):
    (tmp_path / "given").mkdir()
    assert refused(files) == "data set 'folder': " + line.format(path=tmp_path / "given")


def test_files_that_are_no_images_are_counted_and_the_first_is_named(refused, tmp_path):
    whole = image(kind="JPEG", side=64)
    cut = whole[: len(whole) - 100]
    files = {**tree(train=300), "test/dog/9.png": b"no", "train/cat/1.jpg": cut, "train/dog/2": b""}
    assert refused(files, size=16).startswith(
        "data set 'folder': train/cat/1.jpg cannot be read as an image (image file is truncated"
    )
    assert refused(files, size=16).endswith("), and 2 more files")
    assert not [*tmp_path.glob("cache/packed/*/pixels.*n")], "what cannot be used takes no disk"


def test_a_folder_of_no_images_at_all_is_one_line(refused):
    assert refused(dict.fromkeys(tree(), b"text")) == (
        "data set 'folder': none of the files is an image: train/cat/000.png, ..."
    )


def test_an_image_of_too_many_pixels_is_named(refused):
    """20,000 x 20,000 black pixels of one bit, in 6 kB."""
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert "train/cat/000.png cannot be read as an image (Image size (400000000 pixels)" in refused(
        {**tree(), "train/cat/000.png": bomb}, size=16
    )


def test_floating_point_pixels_are_refused(refused):
    depth = encoded(Image.fromarray(np.zeros((16, 16), np.float32)), "TIFF")
    assert "train/cat/000.tif cannot be read as an image (its pixels are floating-point" in refused(
        {**tree(grey=True), "train/cat/000.tif": depth}
    )


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({}, "data set 'folder' needs a path: folder+path=DIRECTORY_OR_ZIP"),
        ({"path": "nowhere"}, "data set 'folder': nowhere does not exist, nor does {root}/nowhere"),
        ({"path": "/nowhere", "name": "x"}, "data set 'folder': /nowhere does not exist"),
        (
            {"path": ".", "size": 0},
            "data set 'folder': size=0 is not a number of pixels, 1 or more",
        ),
        (
            {"path": ".", "size": "8"},
            "data set 'folder': size=8 is not a number of pixels, 1 or more",
        ),
    ],
)
def test_a_wrong_parameter_is_one_line(tmp_path, params, line):
    with pytest.raises(DataError) as error:
        datasets.load("folder", tmp_path, **params)
    assert str(error.value) == line.format(root=tmp_path)
