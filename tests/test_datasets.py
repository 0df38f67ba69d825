from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import datasets
from fixtures.datasets.mnist import FILES
from fixtures.errors import DataError, UnknownName

OFFLINE = "the network is down"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise RuntimeError(OFFLINE)

    monkeypatch.setattr("torchvision.datasets.mnist.MNIST.download", refuse)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def test_images_and_labels_are_as_promised(digits):
    for part in (digits.train, digits.clean, digits.test):
        assert part.images.dtype == torch.float32
        assert part.images.shape[1:] == digits.shape == (1, 28, 28)
        assert 0 <= part.images.min() <= part.images.max() <= 1
        assert part.labels.dtype == torch.int64
        assert set(part.labels.tolist()) == set(range(10))


def test_every_digit_lands_in_exactly_one_split(digits):
    splits = [
        {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in part.images}
        for part in (digits.train, digits.clean, digits.test)
    ]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 1797


def test_clean_is_five_per_cent_of_the_training_split(digits):
    assert digits.clean.size == pytest.approx(0.05 * (digits.train.size + digits.clean.size), abs=5)


def test_the_split_does_not_depend_on_random_state(digits, tmp_path):
    torch.manual_seed(12345)
    again = datasets.load("digits", tmp_path)  # from another folder, so not from memory
    assert again is not digits
    assert torch.equal(again.clean.images, digits.clean.images)
    assert again.fingerprint == digits.fingerprint


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.floats(0, 1))
def test_a_stratified_share_is_taken_of_every_class(labels, share):
    labels = torch.tensor(labels)
    chosen = datasets.stratified(labels, share)
    for label in labels.unique():
        members = labels == label
        assert int((chosen & members).sum()) == round(share * int(members.sum()))


def test_an_unknown_data_set_suggests_near_ones():
    with pytest.raises(UnknownName, match=r"unknown data set 'minst' \(did you mean mnist"):
        datasets.load("minst")


def test_a_named_folder_must_exist(tmp_path):
    with pytest.raises(DataError, match=r"the data folder .*nowhere does not exist"):
        datasets.load("mnist", tmp_path / "nowhere")


def test_without_data_or_network_mnist_says_what_to_do(tmp_path, offline):
    with pytest.raises(DataError) as error:
        datasets.load("mnist", tmp_path)
    assert str(error.value) == (
        f"data set 'mnist' is not in {tmp_path} and could not be downloaded ({OFFLINE}); "
        "give the folder that holds MNIST/raw with --data-dir, or use --dataset digits"
    )


def test_auto_falls_back_to_digits_without_data_or_network(tmp_path, offline):
    assert datasets.resolve("auto", tmp_path) == "digits"


@pytest.fixture(scope="module")
def whole_mnist(tmp_path_factory) -> Path:
    """Files of MNIST's exact layout and size, filled with noise."""
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name, shape in FILES.items():
        high = 256 if len(shape) == 3 else 10
        header = struct.pack(f">I{len(shape)}I", 0x0800 + len(shape), *shape)
        body = noise.integers(0, high, shape, dtype=np.uint8).tobytes()
        (raw / name).write_bytes(header + body)
    return root


@pytest.fixture
def mnist(whole_mnist, tmp_path) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (whole_mnist / "MNIST" / "raw").iterdir():
        (raw / file.name).symlink_to(file)
    return tmp_path


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_whole_files_are_read_and_found_by_auto(mnist):
    whole = datasets.load("mnist", mnist)
    assert (whole.train.size, whole.clean.size, whole.test.size) == (57_000, 3_000, 10_000)
    assert datasets.resolve("auto", mnist) == "mnist"


def test_a_truncated_file_is_named(mnist):
    path = mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    replace(path, path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=rf"{path} is damaged: truncated, or not an IDX file"):
        datasets.load("mnist", mnist)


def test_a_wrong_magic_number_is_named(mnist):
    path = mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    replace(path, b"\x89PNG" + path.read_bytes()[4:])
    with pytest.raises(DataError, match=rf"{path} is damaged"):
        datasets.load("mnist", mnist)


def test_a_file_of_another_size_is_named(mnist):
    path = mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    replace(path, struct.pack(">II", 0x0801, 5) + bytes(5))
    with pytest.raises(DataError, match=rf"{path} is damaged: holds \[5\]"):
        datasets.load("mnist", mnist)


def test_damage_is_an_error_for_auto_too_rather_than_digits(mnist):
    path = mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    replace(path, b"")
    assert datasets.resolve("auto", mnist) == "mnist"
    with pytest.raises(DataError, match="is damaged"):
        datasets.load("mnist", mnist)


def test_a_missing_file_among_others_is_named(mnist, offline):
    path = mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.unlink()
    with pytest.raises(DataError, match=rf"{path} is missing and could not be downloaded"):
        datasets.resolve("auto", mnist)


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (torch.zeros(3, 28, 28), torch.zeros(3).long(), "images must be float32"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(2).long(), "labels must be int64 [3]"),
        (torch.full((3, 1, 8, 8), 2.0), torch.zeros(3).long(), "pixels must lie in [0, 1]"),
        (torch.full((3, 1, 8, 8), float("nan")), torch.zeros(3).long(), "pixels must lie in"),
        (torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 2]), "a label lies outside 0 to 1"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), "holds no images"),
    ],
)
def test_a_loader_that_breaks_its_contract_is_told_so(images, labels, reason):
    part = datasets.ImageSet(images, labels)
    with pytest.raises(DataError) as error:
        datasets.check("theirs", datasets.RawData(part, part, ("a", "b")))
    assert str(error.value).startswith(f"data set 'theirs', train split: {reason}")
