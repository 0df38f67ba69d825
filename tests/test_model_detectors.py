"""Detectors of backdoored models that look for one class among the others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from defenses import DEFENSES
from defenses.mm_bd import largest, surprise
from defenses.outlier import standing_out, too_few
from fixtures.images import ImageSet

CLASSES = 6


def images(each=10):
    """Of each class a bar of its own."""
    labels = torch.arange(CLASSES).repeat_interleave(each)
    found = 0.2 * torch.rand(len(labels), 1, 12, 12, generator=torch.Generator().manual_seed(0))
    for image, label in zip(found, labels, strict=True):
        image[0, 2 * int(label)] += 0.6
    return ImageSet(found, labels)


class Bars(nn.Module):
    """Says which bar is the brightest; ``easy``: the class that the last column turns all into."""

    def __init__(self, easy=None, strength=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CLASSES, 12, 12))
        with torch.no_grad():
            for label in range(CLASSES):
                self.weight[label, 2 * label] = 1.0
            if easy is not None:
                self.weight[easy, :, 11] += strength

    def forward(self, given):
        return torch.einsum("nchw,khw->nk", given, self.weight)


@pytest.fixture
def inspected(view_of):
    def inspect(name, net, **params):
        return DEFENSES.create(name, **params).inspect(view_of(net, images(), classes=CLASSES))

    return inspect


@pytest.mark.parametrize(("name", "params"), [("mm_bd", {}), ("adversarial_labels", {"step": 2.0})])
def test_the_class_that_all_are_led_into_is_accused_and_none_of_a_fair_network(
    name, params, inspected
):
    found = inspected(name, Bars(easy=4, strength=4.0), **params)
    assert found.backdoored
    assert found.suspects == (4,)
    assert int(found.anomaly.argmax()) == 4
    fair = inspected(name, Bars(), **params)
    assert not fair.backdoored
    assert fair.suspects == ()


def test_the_margin_is_the_largest_that_any_image_can_have(view_of):
    """Of the easy class 12 of its own bar and 4 a pixel of the column, 48, less the one pixel that
    is another bar's; of another class its bar without that pixel."""
    detector = DEFENSES.create("mm_bd")
    detector.inspect(view_of(Bars(easy=4, strength=4.0), images(), classes=CLASSES))
    margins = detector.report["margins"]
    assert margins[4] == pytest.approx(59, rel=0.01)
    assert margins[0] == pytest.approx(11, rel=0.01)


def test_margins_need_no_image(view_of):
    with_images = view_of(Bars(), images(), classes=CLASSES)
    assert DEFENSES["mm_bd"].factory.sees == {"model"}
    DEFENSES.create("mm_bd", steps=2).inspect(with_images)
    assert with_images.missed == []


def test_an_image_that_is_led_away_stays_an_image_and_leaves_its_class(view_of):
    seen = []

    class Watched(Bars):
        def forward(self, given):
            seen.append((float(given.min()), float(given.max())))
            return super().forward(given)

    detector = DEFENSES.create("adversarial_labels", step=2.0)
    detector.inspect(view_of(Watched(), images(), classes=CLASSES))
    assert min(low for low, _ in seen) >= 0
    assert max(high for _, high in seen) <= 1
    assert sum(detector.report["shares"]) > 0.9  # of each class, shares of the others' images


def test_an_image_that_stays_in_its_class_was_led_nowhere(view_of):
    detector = DEFENSES.create("adversarial_labels", steps=0)
    detector.inspect(view_of(Bars(), images(), classes=CLASSES))
    assert detector.report["shares"] == [0.0] * CLASSES


def test_of_more_images_than_asked_for_some_are_led_away(view_of):
    counted = []

    class Counting(Bars):
        def forward(self, given):
            counted.append(len(given))
            return super().forward(given)

    view = view_of(Counting(), images(each=20), classes=CLASSES)
    DEFENSES.create("adversarial_labels", images=50, steps=1).inspect(view)
    assert sum(counted) == 2 * 50  # of 120; a step, and the answer


def test_the_highest_does_not_hide_itself_by_widening_the_spread():
    values = torch.tensor([1.0, 1.1, 0.9, 1.0, 9.0], dtype=torch.double)
    far = standing_out(values, 0.0)
    assert far[4] > 50
    assert standing_out(values, 4.0)[4] == pytest.approx(2.0)


def test_a_margin_like_the_others_is_no_surprise():
    margins = torch.tensor([10.0, 11.0, 9.0, 10.5, 9.5, 11.2], dtype=torch.double)
    assert surprise(margins).max() < 4
    margins[2] = 30.0
    assert surprise(margins)[2] > 50
    assert surprise(torch.full((6,), 5.0, dtype=torch.double)).max() < 1
    assert surprise(-margins).isfinite().all()


def test_the_chance_of_the_largest_of_some_draws():
    assert largest(0.0, 10) == 1.0
    assert largest(math.log(2), 1) == pytest.approx(0.5)
    assert largest(math.log(2), 3) == pytest.approx(1 - 0.5**3)
    assert largest(60.0, 10) == pytest.approx(10 * math.exp(-60.0))


@pytest.mark.parametrize(("classes", "says"), [(3, "3 classes are too few"), (4, None)])
def test_a_class_needs_three_others_to_stand_out_from(classes, says):
    found = too_few(classes)
    assert found is None if says is None else found.startswith(says)
