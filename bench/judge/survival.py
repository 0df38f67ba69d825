"""What is left of a trigger that travels: ASR after JPEG, after resizing, after a crop.

Each journey starts at the triggered test images as they are handed over, and whatever is stored on
the way is rounded to bytes.
"""

from __future__ import annotations

import io
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench.judge import formulas
from bench.judge.changed import Change, classes_of_changed
from bench.judge.common import every_trigger
from bench.victims import Victim
from fixtures.images import to_bytes, to_floats
from fixtures.jpeg import Codec, codec_of, passed

QUALITY = 75
"""Of JPEG: what libjpeg and Pillow take where nobody asks for another."""

SMALLER = 3 / 4
"""Of each side, while the image is resized."""

KEPT = 7 / 8
"""Of each side, by the crop."""

UNTOUCHED = 2000
"""Test images, at most, that tell what a journey does to a network by itself."""


def survival(victim: Victim) -> dict[str, float]:
    """ASR after each journey, over all triggers, on the images that ASR is measured on."""
    hits: dict[str, list[Tensor]] = {}
    for one in every_trigger(victim):
        images, aims = one.images.take(one.counts), one.aims[one.counts]
        for name, journey in _journeys(victim, one.counts).items():
            called = classes_of_changed(victim.model, images, journey)
            hits.setdefault(name, []).append(called == aims)
    return {name: formulas.share(torch.cat(parts)) for name, parts in hits.items()}


def accuracy_after(victim: Victim) -> dict[str, float]:
    """Accuracy after each journey of untouched test images, at most `UNTOUCHED`."""
    test = victim.dataset.test
    generator = torch.Generator().manual_seed(0)
    some = torch.randperm(len(test), generator=generator)[:UNTOUCHED]
    untouched = test.take(some)
    return {
        name: formulas.accuracy(
            classes_of_changed(victim.model, untouched, journey), untouched.labels
        )
        for name, journey in _journeys(victim, some).items()
    }


def _journeys(victim: Victim, some: Tensor) -> dict[str, Change]:
    """Metric -> what becomes of the test images at ``some``, positions int64 or a mask bool [N].

    A crop's place is drawn for each test image, and is the same under every trigger.
    """
    test = victim.dataset.test
    drawn = corners(len(test), test.shape, victim.dataset.seed_of("crop", victim.cell.seed))
    return {
        "survives_jpeg": compressed,
        "survives_resize": resized,
        "survives_crop": partial(cropped, drawn[some]),
    }


def compressed(images: Tensor, _index: Tensor) -> Tensor:
    """Encoded as JPEG and decoded again: float [B, C, H, W] -> alike.

    Three channels as colour; of any other number each as a grey image.
    """
    pixels = to_bytes(images)
    each = pixels if pixels.shape[1] == 3 else pixels.flatten(0, 1)[:, None]
    codec = _codec(each.shape[1])
    found = [torch.from_numpy(passed(image, codec).copy()) for image in each.numpy()]
    return to_floats(torch.stack(found).view_as(images))


def resized(images: Tensor, _index: Tensor) -> Tensor:
    """Made smaller, stored, and made as large as it was: float [B, C, H, W] -> alike."""
    height, width = images.shape[2:]
    small = _scaled(images, round(SMALLER * height), round(SMALLER * width))
    return _scaled(to_floats(to_bytes(small)), height, width)


def cropped(corner: Tensor, images: Tensor, index: Tensor) -> Tensor:
    """A window of each image, resized to the whole: float [B, C, H, W] -> alike.

    ``corner``: int64 [N, 2], top and left of the window of each image; see `corners`.
    """
    height, width = images.shape[2:]
    rows, columns = round(KEPT * height), round(KEPT * width)
    windows = [
        image[:, top : top + rows, left : left + columns]
        for image, (top, left) in zip(images, corner[index].tolist(), strict=True)
    ]
    return _scaled(torch.stack(windows), height, width)


def corners(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Where the window of each of so many images begins, drawn evenly: int64 [N, 2]."""
    generator = torch.Generator().manual_seed(seed)
    room = [side - round(KEPT * side) + 1 for side in shape[1:]]
    return torch.stack([torch.randint(n, (count,), generator=generator) for n in room], 1)


def _scaled(images: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    return interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)


@lru_cache(maxsize=2)
def _codec(channels: int) -> Codec:
    """How Pillow encodes at `QUALITY` where nothing else is asked for: colour as 4:2:0."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (16, 16)).save(file, "JPEG", quality=QUALITY)
    codec = codec_of(Image.open(file))
    assert codec is not None
    return codec
