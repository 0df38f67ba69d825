"""What a codec leaves in the pixels tells nobody which images were changed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from pictures import encoded, picture
from PIL import Image
from sklearn.metrics import roc_auc_score
from traces import off_the_lattice

from attacks import ATTACKS, CLEAN, COVER, POISON
from bench.victims.poison import as_files
from fixtures.codec import Codecs
from fixtures.images import ImageSet, to_floats
from fixtures.jpeg import Codec, codec_of, passed, settled
from fixtures.packing.images import Wanted, made

CIFAR10 = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10-jpeg.zip"
IMAGES = 400
"""Clean ones, and as many that are stamped."""

STAMPS = ("pixel", "noise", "blended", "blur", "patch", "wanet", "sig")
OFF_THE_LATTICE = ("noise", "blended", "blur", "sig")
"""Those that change every block, or nearly."""


class Published(NamedTuple):
    """A JPEG data set as it is packed. ``still``: whether each image has settled."""

    images: ImageSet
    codec: Codec
    still: list[bool]


def published(files: list[bytes]) -> Published:
    found = [made(file, Wanted(3)) for file in files]
    kinds = tuple({one.codec for one in found})
    assert len(kinds) == 1
    codecs = Codecs(kinds, torch.zeros(len(found), dtype=torch.int16))
    pixels = torch.from_numpy(np.stack([one.pixels for one in found]))
    images = ImageSet(pixels, torch.zeros(len(found), dtype=torch.int64), codecs)
    return Published(images, kinds[0], [not one.remarks for one in found])


def generated(quality: int, subsampling: int) -> Callable[[], list[bytes]]:
    random = np.random.default_rng(quality)
    options = {"quality": quality, "subsampling": subsampling}
    return lambda: [encoded(picture(random), **options) for _ in range(2 * IMAGES)]


def real() -> list[bytes]:
    with zipfile.ZipFile(CIFAR10) as archive:
        names = sorted(name for name in archive.namelist() if "/test/" in name)
        order = np.random.default_rng(0).permutation(len(names))[: 2 * IMAGES]
        return [archive.read(names[place]) for place in order]


SOURCES = {
    "quality 90, 4:2:0": generated(90, 2),
    "quality 92, 4:4:4": generated(92, 0),
    **({"CIFAR-10 (JPEG)": real} if CIFAR10.exists() else {}),
}


@pytest.fixture(scope="module", params=SOURCES.values(), ids=SOURCES.keys())
def data(request) -> Published:
    return published(request.param())


def stamped(data: Published, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The second half of the images with a trigger: only rounded, and as they are handed over."""
    torch.manual_seed(1)
    attack = ATTACKS.create(name, shape=data.images.shape, num_classes=10)
    index = torch.arange(IMAGES, 2 * IMAGES)
    with torch.no_grad():
        changed = attack(data.images.batch(index))
    return changed.mul(255).round().to(torch.uint8), data.images.encoded(index, changed)


def clean(data: Published) -> torch.Tensor:
    return data.images.bytes(torch.arange(IMAGES))


def distance(pixels: torch.Tensor, data: Published) -> np.ndarray:
    return off_the_lattice(pixels, list(data.codec.tables[0]))


def changed_again(pixels: torch.Tensor, codec: Codec) -> np.ndarray:
    """How much one more encoding changes each image, in grey levels."""
    again = [passed(image, codec) for image in pixels.numpy()]
    pairs = zip(again, pixels.numpy(), strict=True)
    return np.array([np.abs(a.astype(int) - b).mean() for a, b in pairs])


def auroc(before: np.ndarray, after: np.ndarray) -> float:
    scores = np.concatenate([before, after])
    labels = np.repeat([0, 1], [len(before), len(after)])
    known = ~np.isnan(scores)
    assert known.mean() > 0.8
    return float(roc_auc_score(labels[known], scores[known]))


@pytest.mark.parametrize("name", OFF_THE_LATTICE)
def test_a_stamped_image_that_is_only_rounded_is_off_the_lattice(data, name):
    rounded, _ = stamped(data, name)
    found = auroc(distance(clean(data), data), distance(rounded, data))
    assert found >= 0.99


@pytest.mark.parametrize("name", STAMPS)
def test_as_it_is_handed_over_the_lattice_tells_nothing(data, name):
    _, handed = stamped(data, name)
    found = auroc(distance(clean(data), data), distance(handed, data))
    assert 0.4 < found < 0.6


@pytest.mark.parametrize("name", STAMPS)
def test_nor_does_one_more_encoding(data, name):
    rounded, handed = stamped(data, name)
    before = changed_again(clean(data), data.codec)
    if name in OFF_THE_LATTICE:
        assert auroc(before, changed_again(rounded, data.codec)) > 0.95
    assert 0.45 < auroc(before, changed_again(handed, data.codec)) < 0.55


def test_nearly_all_published_images_settle_and_stay_close_to_what_was_published(data):
    assert np.mean(data.still) > 0.98
    index = torch.tensor(data.still).nonzero().flatten()
    unchanged = data.images.encoded(index, data.images.batch(index))
    assert torch.equal(unchanged, data.images.bytes(index))


def test_settling_moves_photographs_by_less_than_a_grey_level_on_average(data, request):
    files = SOURCES[request.node.callspec.id]()[:100]
    opened = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    again = published(files).images.bytes(torch.arange(100)).permute(0, 2, 3, 1).numpy()
    assert np.abs(opened.astype(int) - again).mean() < 1


def codecs(*which: int, kinds: int = 2) -> Codecs:
    steps = [tuple([4 + number] * 64) for number in range(kinds)]
    return Codecs(tuple(Codec((one,), 0) for one in steps), torch.tensor(which, dtype=torch.int16))


def noise(count: int, channels: int = 3, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    return torch.randint(60, 200, shape, dtype=torch.uint8, generator=generator)


def test_each_image_is_encoded_like_its_own_source_and_others_are_left_alone():
    pixels, found = noise(3), codecs(0, 1, -1)
    handed = found.passed(pixels, torch.tensor([2, 1, 0]))
    assert torch.equal(handed[0], pixels[0])
    for row, kind in ((1, 1), (2, 0)):
        expected = settled(pixels[row].numpy(), found.kinds[kind]).pixels
        assert torch.equal(handed[row], torch.from_numpy(expected.copy()))
        assert not torch.equal(handed[row], pixels[row])


def test_what_is_passed_is_not_changed_in_place():
    pixels = noise(2)
    before = pixels.clone()
    codecs(0, 1).passed(pixels, torch.arange(2))
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 160], ids=["one thread", "several threads"])
def test_grey_and_colour_come_back_the_same_each_time(channels, side):
    pixels, found = noise(20, channels, side), codecs(*[0, 1] * 10)
    once = found.passed(pixels, torch.arange(20))
    assert once.shape == pixels.shape
    assert torch.equal(once, found.passed(pixels, torch.arange(20)))


def test_a_part_of_a_set_keeps_its_codecs():
    found = codecs(0, 1, -1)
    assert found.take(torch.tensor([2, 0])).which.tolist() == [-1, 0]
    assert found.take(torch.tensor([True, False, True])).which.tolist() == [0, -1]


@pytest.fixture
def jpegs():
    """Three noisy images, the last one of no JPEG."""
    pixels = noise(3, 3, 32)
    return ImageSet(pixels, torch.zeros(3, dtype=torch.int64), codecs(0, 1, -1))


def test_what_an_attack_makes_during_training_is_as_its_files_will_be(jpegs):
    index = torch.tensor([2, 0, 1])
    roles = torch.tensor([POISON, COVER, CLEAN], dtype=torch.int8)
    stamped = (jpegs.batch(index) * 0.9).requires_grad_(True)
    found = as_files(jpegs, stamped, roles, index)
    assert torch.equal(found[:2], to_floats(jpegs.encoded(index[:2], stamped[:2].detach())))
    assert torch.equal(found[2], stamped[2])
    assert not torch.equal(found[1], stamped[1])
    found.sum().backward()
    assert torch.equal(stamped.grad, torch.ones_like(stamped)), "straight through"


def test_a_batch_without_poison_is_trained_on_as_it_is(jpegs):
    images, roles = jpegs.images, torch.full((3,), CLEAN, dtype=torch.int8)
    assert as_files(jpegs, images, roles, torch.arange(3)) is images


def files() -> Iterator[tuple[str, bytes, tuple[int, int] | None]]:
    """A name, a file, and how many tables and which subsampling are found in it."""
    image = picture(np.random.default_rng(0))
    yield "4:4:4", encoded(image, subsampling=0), (3, 0)
    yield "4:2:2", encoded(image, subsampling=1), (3, 1)
    yield "progressive", encoded(image, subsampling=2, progressive=True), (3, 2)
    yield "one table", encoded(image, qtables=[[9] * 64], subsampling=0), (1, 0)
    yield "grey", encoded(image.convert("L")), (1, 0)
    yield "PNG", encoded(image, "PNG"), None
    yield "CMYK", encoded(image.convert("CMYK")), None
    yield "stored as RGB", encoded(image, keep_rgb=True), None


@pytest.mark.parametrize(("_name", "file", "found"), [pytest.param(*f, id=f[0]) for f in files()])
def test_the_codec_of_a_file_is_found(_name, file, found):
    with Image.open(io.BytesIO(file)) as image:
        codec = codec_of(image)
    assert (codec and (len(codec.tables), codec.subsampling)) == found


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
def test_how_the_coefficients_are_stored_does_not_change_what_is_settled(options):
    """A file of the same coefficients is recognised, or is encoded once more: no difference."""
    random = np.random.default_rng(3)
    for _ in range(20):
        image = picture(random)
        plain, other = (encoded(image, quality=85, **given) for given in ({}, options))
        assert np.array_equal(made(plain, Wanted(3)).pixels, made(other, Wanted(3)).pixels)


def test_a_drawing_that_every_encoding_blurs_further_is_left_as_it_is():
    """Hard edges of saturated colours, chroma at half the resolution: 13 grey levels off by the
    time that it settles."""
    random = np.random.default_rng(0)
    drawn = Image.fromarray(random.choice([0, 255], (32, 32, 3)).astype(np.uint8))
    file = encoded(drawn, quality=90, subsampling=2)
    found = made(file, Wanted(3))
    assert found.remarks == ("unsettled",)
    opened = np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1)
    assert np.abs(found.pixels.astype(int) - opened).mean() <= 4
