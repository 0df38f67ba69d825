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
from fixtures.datasets.duplicates import duplicates
from fixtures.datasets.mnist import FILES
from fixtures.errors import DataError, UnknownName
from fixtures.images import ImageSet

OFFLINE = "the network is down"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise RuntimeError(OFFLINE)

    monkeypatch.setattr("torchvision.datasets.mnist.MNIST.download", refuse)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def splits(data):
    return data.train, data.clean, data.validation, data.test


def test_images_and_labels_are_as_promised(digits):
    for part in splits(digits):
        assert part.images.dtype == torch.float32
        assert part.shape == digits.shape == (1, 28, 28)
        assert 0 <= part.images.min() <= part.images.max() <= 1
        assert part.labels.dtype == torch.int64
        assert set(part.labels.tolist()) == set(range(10))


def test_every_digit_lands_in_exactly_one_split(digits):
    found = [
        {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in part.images}
        for part in splits(digits)
    ]
    assert sum(map(len, found)) == len(set.union(*found)) == 1797


@pytest.mark.parametrize("share", ["clean", "validation"])
def test_five_per_cent_of_each_class_of_the_training_split_are_set_aside(digits, share):
    *training, _test = splits(digits)
    counts = [part.labels.bincount() for part in training]
    own = getattr(digits, share).labels.bincount()
    assert torch.allclose(own.float(), 0.05 * sum(counts).float(), atol=0.51)


def test_no_image_of_the_digits_is_in_two_splits(digits):
    assert set(digits.duplicates.values()) == {0}
    assert list(digits.duplicates) == [
        *("train, clean", "train, validation", "train, test"),
        *("clean, validation", "clean, test", "validation, test"),
    ]


def test_an_image_that_is_in_two_splits_is_counted():
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.arange(6) % 2
    found = duplicates(
        {
            "train": ImageSet(one[:4], labels[:4]),
            "test": ImageSet(one[[5, 1, 1]], labels[:3]),
        }
    )
    assert found == {"train, test": 2}


def test_a_budget_is_drawn_of_every_class_and_differs_between_seeds(digits):
    few, again, other = (datasets.budgeted(digits.clean, 3, seed) for seed in (0, 0, 1))
    assert few.labels.bincount().tolist() == [3] * 10
    assert torch.equal(few.images, again.images)
    assert not torch.equal(few.images, other.images)


def test_a_class_with_fewer_images_than_the_budget_gives_all_it_has(digits):
    everything = datasets.budgeted(digits.clean, 1000, seed=0)
    assert torch.equal(everything.images, digits.clean.images)
    assert datasets.budgeted(digits.clean, None, seed=0) is digits.clean


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
    sizes = [len(part) for part in splits(whole)]
    # A twentieth of each class, rounded: not of the whole.
    assert sizes == pytest.approx([54_000, 3_000, 3_000, 10_000], abs=5)
    assert sum(sizes) == 70_000
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


def zeros(labels, *shape):
    return ImageSet(torch.zeros(len(labels), *shape), torch.tensor(labels))


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        (zeros([0, 1, 2], 1, 8, 8), zeros([0], 1, 8, 8), "train split: a label lies outside 0 to"),
        (zeros([0, 1], 1, 8, 8), zeros([-1], 1, 8, 8), "test split: a label lies outside 0 to 1"),
        (torch.zeros(3, 1, 8, 8), zeros([0], 1, 8, 8), "train split: expected an ImageSet, got T"),
        (zeros([0, 1], 1, 8, 8), zeros([1], 3, 8, 8), "test images are [3, 8, 8], training images"),
        (
            zeros([0, 1], 1, 8, 8),
            ImageSet(torch.zeros(0, 1, 8, 8), torch.zeros(0).long()),
            "test split: holds no images",
        ),
    ],
)
def test_a_loader_that_breaks_its_contract_is_told_so(train, test, reason):
    with pytest.raises(DataError) as error:
        datasets.check("theirs", datasets.RawData(train, test, ("a", "b")))
    found = str(error.value)
    assert found.startswith("data set 'theirs'")
    assert reason in found
    assert "\n" not in found


def test_a_loaders_own_fingerprint_is_taken_instead_of_reading_every_pixel(monkeypatch, tmp_path):
    part = zeros([0, 1] * 40, 1, 8, 8)
    monkeypatch.setattr("fixtures.datasets.splitting.fingerprint", pytest.fail)
    data = datasets.split(
        "theirs", lambda root: datasets.RawData(part, part, ("a", "b"), "known"), tmp_path
    )
    assert data.fingerprint == "known"


def test_a_data_set_takes_arguments_of_its_own(tmp_path):
    def theirs(root, size=8):
        part = zeros([0, 1] * 40, 1, size, size)
        return datasets.RawData(part, part, ("a", "b"))

    with datasets.DATASETS.temporary():
        datasets.dataset("theirs", flips=True)(theirs)
        assert datasets.load("theirs", tmp_path).shape == (1, 8, 8)
        larger = datasets.load("theirs", tmp_path, size=12)
        assert (larger.shape, larger.flips) == ((1, 12, 12), True)
        with pytest.raises(DataError, match=r"data set 'theirs': TypeError: .*'sise'"):
            datasets.load("theirs", tmp_path, sise=12)


def test_the_data_folder_may_be_given_by_name(tmp_path):
    assert datasets.load("digits", root=tmp_path) is datasets.load("digits", tmp_path)
