"""Image sets: the same images and labels as plain tensors, however they are taken apart."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.errors import DataError
from fixtures.images import ImageSet, gathered, mapped, to_bytes, to_floats

SHAPE = (2, 3, 4)


def pixels(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8)


def same(images, expected, labels):
    """Whether a set is these uint8 images under these labels, by every way of reading it."""
    index = torch.arange(len(labels))
    read = [batch for _, batch in images.batches(3)]
    return (
        len(images) == len(labels)
        and images.shape == SHAPE
        and torch.equal(images.labels, labels)
        and torch.equal(images.bytes(index), expected)
        and torch.equal(images.batch(index), to_floats(expected))
        and torch.equal(images.images, to_floats(expected))
        and torch.equal(torch.cat([*read, torch.empty(0, *SHAPE)]), to_floats(expected))
    )


counts = st.integers(1, 12)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 99)),
        st.tuples(st.just("mask"), st.integers(0, 99)),
        st.tuples(st.just("label"), st.integers(0, 99)),
        st.tuples(st.just("overlay"), st.integers(0, 99)),
        st.tuples(st.just("flatten"), st.integers(0, 99)),
    ),
    max_size=6,
)


def changed(step, images, expected, labels):
    """A set after one step, and the plain tensors after the same."""
    kind, seed = step
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    some = torch.randint(0, max(1, count), (count,), generator=generator)[: (count + 1) // 2]
    if kind == "take":  # in any order, some of them twice
        return images.take(some), expected[some], labels[some]
    if kind == "mask":
        mask = torch.rand(count, generator=generator) < 0.7
        return images.take(mask), expected[mask], labels[mask]
    if kind == "label":
        others = torch.randint(0, 5, (count,), generator=generator)
        return images.labelled(others), expected, others
    if kind == "overlay":
        places = some.unique()
        over, named = pixels(len(places), seed), torch.full((len(places),), 9)
        expected, labels = expected.clone(), labels.clone()
        expected[places], labels[places] = over, named
        return images.overlaid(places, over, named), expected, labels
    return images.flattened(), expected, labels


@settings(max_examples=200, deadline=None)
@given(count=counts, steps=steps)
def test_whatever_is_done_to_a_set_is_what_plain_tensors_would_hold(count, steps):
    expected, labels = pixels(count), torch.arange(count) % 3
    images = ImageSet(expected.clone(), labels.clone())
    seen = [(images, expected, labels)]
    for step in steps:
        seen.append(changed(step, *seen[-1]))
    assert all(same(*state) for state in seen)  # and none of the earlier ones has changed


@settings(max_examples=60, deadline=None)
@given(count=counts, steps=steps)
def test_a_set_in_a_file_is_the_same_as_one_in_memory(tmp_path_factory, count, steps):
    path = tmp_path_factory.mktemp("set") / "pixels"
    expected, labels = pixels(count), torch.arange(count) % 3
    images = ImageSet(gathered(iter(expected.split(5)), count, SHAPE, path), labels)
    assert path.read_bytes() == expected.numpy().tobytes()
    state = (ImageSet(mapped(path, count, SHAPE), labels), expected, labels)
    for step in steps:
        state = changed(step, *state)
    assert same(images, expected, labels)
    assert same(*state)


@settings(max_examples=60, deadline=None)
@given(count=counts, seed=st.integers(0, 99))
def test_a_flattened_set_holds_nothing_that_tells_what_lay_over_it(count, seed):
    labels = torch.arange(count) % 3
    clean = ImageSet(pixels(count), labels)
    (over, expected, labels) = changed(("overlay", seed), clean, pixels(count), labels)
    flat = over.flattened()
    assert same(flat, expected, labels)
    assert held(flat) == held(ImageSet(expected, labels))
    assert held(over) != held(flat)


def held(images):
    """Every attribute: of a tensor its size, and that of the memory behind it."""
    return {
        name: (value.dtype, value.shape, value.untyped_storage().nbytes())
        if isinstance(value, torch.Tensor)
        else value
        for name, value in vars(images).items()
    }


def test_a_flattened_set_can_be_written_to_a_file(tmp_path):
    over, expected, labels = changed(
        ("overlay", 3), ImageSet(pixels(9), torch.zeros(9).long()), pixels(9), torch.zeros(9).long()
    )
    flat = over.flattened(tmp_path / "flat")
    assert same(flat, expected, labels)
    assert [path.name for path in tmp_path.iterdir()] == ["flat"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    def parts():
        yield pixels(2)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        gathered(parts(), 4, SHAPE, tmp_path / "half")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_named(tmp_path):
    path = tmp_path / "pixels"
    path.write_bytes(bytes(25))
    with pytest.raises(ValueError, match=r"pixels has 25 bytes, expected 48"):
        mapped(path, 2, SHAPE)


def test_every_grey_level_survives_becoming_a_float():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_bytes(to_floats(levels)), levels)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, width=32))
def test_a_pixel_is_rounded_to_the_nearest_grey_level(value):
    image = torch.full((1, 1, 1, 1), value)
    rounded = ImageSet(image, torch.zeros(1).long()).images
    assert abs(float(rounded) - value) <= 0.5 / 255 + 1e-6


def test_a_batch_may_be_changed_and_the_set_stays_as_it_is():
    images = ImageSet(pixels(4), torch.zeros(4).long())
    images.batch(torch.arange(4)).zero_()
    images.bytes(torch.arange(4)).zero_()
    assert same(images, pixels(4), torch.zeros(4).long())


def test_equal_images_have_equal_digests_and_others_have_not():
    three = pixels(3)
    images = ImageSet(torch.cat([three, three[:1]]), torch.arange(4))
    digests = images.digests()
    assert digests[0] == digests[3]
    assert len(digests.unique()) == 3
    assert torch.equal(images.take(torch.tensor([2, 0])).digests(), digests[[2, 0]])


def test_a_set_too_large_for_one_tensor_says_how_to_read_it(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(100_000 * 3 * 64 * 64)  # a hole: takes no room
    large = ImageSet(mapped(path, 100_000, (3, 64, 64)), torch.zeros(100_000).long())
    with pytest.raises(
        DataError, match=r"are 4.6 GiB as one tensor: read them with batch\(index\)"
    ):
        _ = large.images
    assert large.batch(torch.tensor([99_999])).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (torch.zeros(3, 28, 28), torch.zeros(3).long(), r"images must be uint8 \[N, C, H, W\]"),
        (torch.zeros(3, 1, 8, 8).double(), torch.zeros(3).long(), "images must be uint8"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(2).long(), r"labels must be int64 \[3\]"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3), r"labels must be int64 \[3\], got torch.float32"),
        (torch.full((3, 1, 8, 8), 2.0), torch.zeros(3).long(), r"pixels must lie in \[0, 1\]"),
        (torch.full((3, 1, 8, 8), float("nan")), torch.zeros(3).long(), "pixels must lie in"),
    ],
)
def test_what_is_no_set_of_labelled_images_is_one_clear_error(images, labels, reason):
    with pytest.raises(DataError, match=reason):
        ImageSet(images, labels)


READS = """
import resource, sys, torch
from pathlib import Path
from fixtures.images import ImageSet, mapped
path, count = Path(sys.argv[1]), int(sys.argv[2])
data = ImageSet(mapped(path, count, (3, 64, 64)), torch.zeros(count, dtype=torch.int64))
over = data.overlaid(torch.arange(50), torch.zeros(50, 3, 64, 64, dtype=torch.uint8),
                     torch.ones(50, dtype=torch.int64)).take(torch.randperm(count))
print(sum(float(images.sum()) for _, images in over.batches()))
status = Path("/proc/self/status").read_text()
print(status.split("RssAnon:")[1].split()[0])
"""


def test_reading_a_set_from_a_file_takes_no_more_memory_for_more_images(tmp_path, surroundings):
    """Linux' count of memory of its own, in kB: the file's own pages are the system's to drop."""
    taken = []
    for count in (1_000, 20_000):
        path = tmp_path / str(count)
        with path.open("wb") as file:
            file.truncate(count * 3 * 64 * 64)
        done = subprocess.run(
            [sys.executable, "-c", READS, str(path), str(count)],
            # What a batch frees goes back at once, or the count is of what malloc keeps by chance.
            env=surroundings(OMP_NUM_THREADS="1", MALLOC_MMAP_THRESHOLD_="65536"),
            capture_output=True,
            text=True,
            check=True,
        )
        taken.append(int(done.stdout.split()[1]))
    assert taken[1] - taken[0] < 20_000  # of the 228,000 kB more that the file holds


@pytest.mark.parametrize(("free", "where"), [(10**6, "meta"), (10**2, "cpu")])
def test_a_set_lies_on_the_device_where_it_fits_and_else_travels_in_batches(
    monkeypatch, free, where
):
    monkeypatch.setattr("fixtures.images.free_bytes", lambda device: free)
    images = ImageSet(pixels(10), torch.zeros(10).long())
    over = images.overlaid(torch.tensor([3]), pixels(1, seed=1), torch.ones(1).long())
    found = over.resident(torch.device("meta"))
    assert found.bytes(torch.tensor([0, 3])).device.type == where
    assert torch.equal(found.labels, over.labels)


def test_a_cpu_has_the_set_in_its_memory_already():
    images = ImageSet(pixels(10), torch.zeros(10).long())
    assert images.resident(torch.device("cpu")) is images
