"""What is left of a trigger that travels as JPEG, resized, or cropped."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from bench import Cell, run
from bench.judge import formulas
from bench.judge.changed import classes_of_changed
from bench.judge.common import classes_of, every_trigger
from bench.judge.networks import measure
from bench.judge.survival import accuracy_after, compressed, corners, cropped, resized, survival
from bench.victims.provide import victim
from fixtures.images import ImageSet, to_bytes, to_floats

NONE = torch.arange(0)


def noise(channels, height=12, width=16):
    generator = torch.Generator().manual_seed(0)
    return to_floats(to_bytes(torch.rand(3, channels, height, width, generator=generator)))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_jpeg_is_what_pillow_writes_at_quality_75(channels, mode):
    images = noise(channels)
    got = compressed(images, NONE)
    for image, found in zip(to_bytes(images), to_bytes(got), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).squeeze().numpy(), mode).save(
            file, "JPEG", quality=75
        )
        decoded = torch.tensor(list(Image.open(file).tobytes()), dtype=torch.uint8)
        assert torch.equal(found.permute(1, 2, 0).flatten(), decoded)


def test_channels_that_make_no_colour_are_encoded_one_by_one():
    images = noise(2)
    grey = torch.cat([compressed(images[:, c : c + 1], NONE) for c in range(2)], 1)
    assert torch.equal(compressed(images, NONE), grey)


def test_resized_images_lose_what_is_finer_than_three_quarters():
    stripes = torch.zeros(1, 1, 16, 16)
    stripes[..., ::2] = 1.0
    assert float(resized(stripes, NONE).var()) < 0.5 * float(stripes.var())
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    assert torch.allclose(resized(ramp, NONE), ramp, atol=0.06)


def test_on_the_way_a_resized_image_is_stored_as_bytes():
    dark = torch.full((1, 1, 8, 8), 0.4 / 255)
    assert float(resized(dark, NONE).max()) == 0


def test_a_crop_keeps_its_window_and_resizes_it_to_the_whole():
    images = noise(3, 16, 24)
    corner = torch.tensor([[0, 0], [1, 2], [2, 3]])
    got = cropped(corner, images, torch.tensor([2, 0, 1]))
    for image, (top, left), found in zip(images, [(2, 3), (0, 0), (1, 2)], got, strict=True):
        window = image[None, :, top : top + 14, left : left + 21]
        whole = interpolate(window, (16, 24), mode="bilinear", antialias=True)[0]
        assert torch.allclose(found, whole, atol=1e-6)


def test_the_window_of_each_image_is_drawn_and_repeats():
    drawn = corners(1000, (1, 28, 32), seed=0)
    assert drawn.min(0).values.tolist() == [0, 0]
    assert drawn.max(0).values.tolist() == [28 - 24, 32 - 28]
    assert torch.equal(drawn, corners(1000, (1, 28, 32), seed=0))
    assert not torch.equal(drawn, corners(1000, (1, 28, 32), seed=1))


@pytest.mark.parametrize("journey", [compressed, resized, lambda x, i: cropped(CORNER, x, i)])
def test_a_plain_image_stays_as_it_is(journey):
    plain = torch.full((2, 3, 16, 16), 128 / 255)
    assert torch.equal(to_bytes(journey(plain, torch.arange(2))), to_bytes(plain))


CORNER = torch.tensor([[0, 1], [2, 2]])


def test_changed_images_reach_the_network_as_bytes_in_their_order():
    images = ImageSet(torch.rand(30, 1, 4, 4), torch.zeros(30).long())
    seen = []

    class Sees(torch.nn.Linear):
        def forward(self, given):
            seen.append(given.clone())
            return super().forward(given.flatten(1))

    def darker(batch, index):
        assert torch.equal(batch, images.batch(index))
        return batch * 0.3

    classes_of_changed(Sees(16, 2), images, darker)
    assert torch.equal(torch.cat(seen), to_floats(to_bytes(images.images * 0.3)))


def test_no_journey_is_asr_itself(workspace, monkeypatch):
    attacked = victim(Cell("tiny", attack="pixel"), workspace)
    for name in ("compressed", "resized"):
        monkeypatch.setattr(f"bench.judge.survival.{name}", lambda images, _index: images)
    found = survival(attacked)
    asr = measure(attacked.model, attacked)["asr"]
    assert found["survives_jpeg"] == found["survives_resize"] == asr
    assert found["survives_crop"] < asr  # the pixel lies in a corner, which most crops cut off


@pytest.mark.usefixtures("hooks")
def test_all_triggers_travel_each_towards_its_own_aim(workspace):
    given = {"target": 2}
    attacked = victim(Cell("tiny", attack="two_squares", attack_params=given), workspace)
    hits = []
    for one in every_trigger(attacked):
        images = one.images.take(one.counts)
        travelled = ImageSet(resized(images.images, NONE), images.labels)
        hits.append(classes_of(attacked.model, travelled) == one.aims[one.counts])
    assert survival(attacked)["survives_resize"] == formulas.share(torch.cat(hits))


def test_an_attacks_record_says_what_survives_and_what_a_journey_does_by_itself(workspace):
    found = run(Cell("tiny", attack="pixel"), workspace)
    names = {"survives_jpeg", "survives_resize", "survives_crop"}
    assert names <= found.metrics.keys()
    assert found.details["accuracy_after"].keys() == names
    assert found.details["accuracy_after"]["survives_jpeg"] > 0.9
    clean = run(Cell("tiny", attack="none"), workspace)
    assert not names & clean.metrics.keys()


def test_accuracy_after_a_journey_is_of_the_images_own_classes(workspace):
    attacked = victim(Cell("tiny", attack="pixel"), workspace)
    test = attacked.dataset.test
    travelled = ImageSet(resized(test.images, NONE), test.labels)
    own = formulas.accuracy(classes_of(attacked.model, travelled), test.labels)
    assert accuracy_after(attacked)["survives_resize"] == pytest.approx(own)
