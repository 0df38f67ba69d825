from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import gaussian_blur

from attacks import ATTACKS, Attack, PoisonedSet
from bench.checks import check_attack
from bench.judge.formulas import stealth
from fixtures import datasets
from fixtures.datasets import ImageSet
from fixtures.errors import PluginError


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_conforms(name):
    check_attack(name)


def test_the_noise_is_at_most_five_per_cent_of_the_range(digits):
    noise = ATTACKS.create("noise")
    assert stealth(digits.test.images, noise(digits.test.images))["linf"] <= 0.05


def test_the_pixel_trigger_is_a_white_square_and_nothing_else(digits):
    images = digits.test.images[:5]
    stamped = ATTACKS.create("pixel", size=3, margin=1)(images)
    assert (stamped[..., 24:27, 24:27] == 1).all()
    stamped[..., 24:27, 24:27] = images[..., 24:27, 24:27]
    assert torch.equal(stamped, images)


def test_the_blur_changes_the_middle_only(digits):
    images = digits.test.images[:5]
    stamped = ATTACKS.create("blur", region=0.5)(images)
    outside = torch.ones(28, 28, dtype=torch.bool)
    outside[7:21, 7:21] = False
    assert torch.equal(stamped[..., outside], images[..., outside])
    assert not torch.equal(stamped, images)


def test_the_patch_is_learned_and_stays_in_range():
    patch = ATTACKS.create("patch")
    with torch.no_grad():
        patch.logits.fill_(100.0)
    assert patch(torch.zeros(2, 1, 28, 28)).max() == 1.0
    assert [name for name, _ in patch.named_parameters()] == ["logits"]


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=120),
    rate=st.floats(0, 1),
    target=st.integers(0, 3),
    seed=st.integers(0, 5),
)
def test_exactly_the_asked_share_of_other_classes_is_poisoned(labels, rate, target, seed):
    labels = torch.tensor(labels)
    train = ImageSet(torch.rand(len(labels), 1, 6, 6) * 0.5, labels)
    attack = ATTACKS.create("pixel", poison_rate=rate, target=target, shape=(1, 6, 6))
    wanted = round(rate * len(labels))
    generator = torch.Generator().manual_seed(seed)
    if wanted > int((labels != target).sum()):
        with pytest.raises(ValueError, match=f"asks for {wanted} samples"):
            attack.poison(train, generator)
        return
    got = attack.poison(train, generator)
    assert int(got.poisoned.sum()) == wanted
    assert (got.labels[got.poisoned] == target).all()
    assert (labels[got.poisoned] != target).all()
    assert torch.equal(got.images[~got.poisoned], train.images[~got.poisoned])
    assert torch.equal(got.labels[~got.poisoned], labels[~got.poisoned])
    assert torch.equal(got.images[got.poisoned], attack(train.images[got.poisoned]))


def test_a_learned_trigger_is_stamped_anew_on_poisoned_samples_only():
    patch = ATTACKS.create("patch")
    images, labels = torch.zeros(4, 1, 28, 28), torch.zeros(4).long()
    poisoned = torch.tensor([True, False, True, False])
    stamped, _ = patch.on_batch(images, labels, poisoned)
    assert stamped.requires_grad
    assert torch.equal(stamped.flatten(1).any(1), poisoned)


class Broken(Attack):
    """A blur of the dark corner, as in the seed study: changes next to nothing."""

    def forward(self, images):
        stamped = images.clone()
        stamped[..., :8, :8] = gaussian_blur(images[..., :8, :8], [5, 5], [1.0, 1.0])
        return stamped


class WrongShape(Attack):
    def forward(self, images):
        return images[..., 1:]


class OutOfRange(Attack):
    def forward(self, images):
        return images + 0.5


class NotANumber(Attack):
    def forward(self, images):
        return images * float("nan")


class InPlace(Attack):
    def forward(self, images):
        images[..., -3:, -3:] = 1.0
        return images


class NoForward(Attack):
    pass


class Raises(Attack):
    def forward(self, images):
        raise ValueError("no idea")


class Stamps(Attack):
    def forward(self, images):
        stamped = images.clone()
        stamped[..., -3:, -3:] = 1.0
        return stamped


class ShiftedMask(Stamps):
    def poison(self, train, generator):
        got = super().poison(train, generator)
        return got._replace(poisoned=got.poisoned.roll(1))


class TooFew(Stamps):
    def poison(self, train, generator):
        got = super().poison(ImageSet(*(part[:300] for part in train)), generator)
        rest = len(train.labels) - 300
        return PoisonedSet(
            torch.cat([got.images, train.images[300:]]),
            torch.cat([got.labels, train.labels[300:]]),
            torch.cat([got.poisoned, torch.zeros(rest, dtype=torch.bool)]),
        )


class IgnoresGenerator(Stamps):
    def poison(self, train, generator):
        return super().poison(train, torch.Generator().manual_seed(7))


class PoisonsInPlace(Stamps):
    def poison(self, train, generator):
        got = super().poison(train, generator)
        train.images.copy_(got.images)
        return got


class ForgetsItsPattern(Attack):
    def __init__(self, **common):
        super().__init__(**common)
        self.pattern = torch.rand(1, 28, 28)

    def forward(self, images):
        return (images + 0.2 * self.pattern).clamp(0, 1)


class Unlearned(Stamps):
    def __init__(self, **common):
        super().__init__(**common)
        self.ignored = torch.nn.Parameter(torch.zeros(3))

    def forward(self, images):
        return super().forward(images) + 0 * self.ignored.detach().sum()


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (Broken, "the trigger does next to nothing: it moves"),
        (WrongShape, "forward returned torch.float32 [359, 1, 28, 27], expected"),
        (OutOfRange, "forward returned pixels from 0.5 to 1.5, outside [0, 1]"),
        (NotANumber, "forward returned NaN or infinite pixels"),
        (InPlace, "forward changed its input in place"),
        (NoForward, "raised NotImplementedError: NoForward has no forward(images)"),
        (Raises, "raised ValueError: no idea (test_attacks.py:"),
        (ShiftedMask, "changed samples outside its own mask"),
        (TooFew, "poisoned 9 samples, asked for 41 (0.03 of 1368)"),
        (IgnoresGenerator, "poison chooses the same samples whatever its generator"),
        (PoisonsInPlace, "poison changed its input in place"),
        (ForgetsItsPattern, "stamps differently after its state was stored and loaded"),
        (Unlearned, "raised RuntimeError"),
    ],
)
def test_a_broken_attack_is_named_with_the_reason(plugin, reason):
    with pytest.raises(PluginError) as error:
        check_attack(plugin)
    assert str(error.value).startswith(f"attack '{plugin.__name__}': {reason}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("vandal", [InPlace, PoisonsInPlace])
def test_an_attack_that_writes_into_its_input_cannot_harm_the_data(vandal, digits):
    before = [part.images.clone() for part in (digits.train, digits.test)]
    with pytest.raises(PluginError, match="changed its input in place"):
        check_attack(vandal)
    assert all(
        torch.equal(part.images, copy)
        for part, copy in zip((digits.train, digits.test), before, strict=True)
    )
