"""What breaks the contract of an attack is one line that names the plugin and the breach."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur

from attacks import ATTACKS, CLEAN, COVER, POISON, Attack, Plan
from bench.checks import check_attack
from fixtures import datasets
from fixtures.errors import PluginError


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


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


class Chooses(Stamps):
    """Its plan is that of a usual attack, changed."""

    def choose(self, labels, generator):
        return self.changed(labels, super().choose(labels, generator))


class BoolRoles(Chooses):
    def changed(self, labels, plan):
        return Plan(plan.roles == POISON, plan.labels)


class FourthRole(Chooses):
    def changed(self, labels, plan):
        return Plan(plan.roles * 3, plan.labels)


class TooFewRoles(Chooses):
    def changed(self, labels, plan):
        return Plan(plan.roles[:300], plan.labels)


class ShiftedRoles(Chooses):
    def changed(self, labels, plan):
        return Plan(plan.roles.roll(1), plan.labels)


class WrongLabel(Chooses):
    def changed(self, labels, plan):
        wrong = (plan.labels + 1) % 10
        return Plan(plan.roles, torch.where(plan.roles == POISON, wrong, labels))


class RelabelsCovers(Chooses):
    def changed(self, labels, plan):
        return Plan(plan.roles * COVER, plan.labels)


class NoPlan(Chooses):
    def changed(self, labels, plan):
        return plan.roles, plan.labels


class IgnoresGenerator(Stamps):
    def choose(self, labels, generator):
        return super().choose(labels, torch.Generator().manual_seed(7))


class StampsInPlace(Stamps):
    def stamp(self, images, labels, roles, index, generator):
        return images.mul_(0.5)


class StampsWrongShape(Stamps):
    def stamp(self, images, labels, roles, index, generator):
        return self(images)[:-1]


class StampsNothing(Stamps):
    def stamp(self, images, labels, roles, index, generator):
        return images + 0.001 * (images < 0.9)


class ReturnsTwo(Stamps):
    def on_batch(self, images, labels, roles, index, net, generator):
        return images, labels


class RolesOfAnotherType(Stamps):
    def on_batch(self, images, labels, roles, index, net, generator):
        return images, labels, roles.long()


class ChangesInSecret(Stamps):
    def on_batch(self, images, labels, roles, index, net, generator):
        return self(images), labels, roles


class MislabelsCovers(Stamps):
    def on_batch(self, images, labels, roles, index, net, generator):
        return self(images), (labels + 1) % 10, torch.full_like(roles, COVER)


class BatchInPlace(Stamps):
    def on_batch(self, images, labels, roles, index, net, generator):
        images[roles != CLEAN] = 0.5
        return images, labels, roles


class PenaltyOfEach(Stamps):
    def penalty(self, net, images, labels, roles, logits):
        return logits.mean(1)


class NoNetwork(Stamps):
    def tamper(self, net, access):
        return access


class OtherNetwork(Stamps):
    def tamper(self, net, access):
        return torch.nn.Linear(1, 1)


class GrowsInPrepare(Stamps):
    def prepare(self, access):
        self.register_buffer("found", torch.zeros(3))


class AimsAtItself(Stamps):
    def applies(self, labels, which=0):
        return labels >= 0


class AppliesToNothing(Stamps):
    def applies(self, labels, which=0):
        return labels < 0

    def choose(self, labels, generator):
        return Plan(torch.ones(len(labels), dtype=torch.int8), self.aim(labels))


class TwoAlike(Attack):
    triggers = 2

    def forward(self, images, which=0):
        return Stamps.forward(self, images)


class CleanYetMoves(Stamps):
    backdoors = False


class TooFaint(Attack):
    """A third of a grey level: lost in 8 bits."""

    def forward(self, images):
        return images + 0.3 / 255 * (images < 0.9)


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
        (Broken, "the trigger does next to nothing once images are rounded to 8 bits: it moves"),
        (TooFaint, "the trigger does next to nothing once images are rounded to 8 bits: it moves"),
        (WrongShape, "forward returned torch.float32 [359, 1, 28, 27], expected"),
        (OutOfRange, "forward returned pixels from 0.5 to 1.5, outside [0, 1]"),
        (NotANumber, "forward returned NaN or infinite pixels"),
        (InPlace, "forward changed its input in place"),
        (NoForward, "raised NotImplementedError: NoForward has no forward(images)"),
        (Raises, "raised ValueError: no idea (test_attack_checks.py:"),
        (BoolRoles, "choose's roles are torch.bool [1298], expected torch.int8 [1298]"),
        (TooFewRoles, "choose's roles are torch.int8 [300], expected torch.int8 [1298]"),
        (FourthRole, "choose gave a role [3], none of 0 (clean), 1 (poison), 2 (cover)"),
        (ShiftedRoles, "choose changed the label of "),
        (RelabelsCovers, "choose changed the label of 39 samples that are not poison"),
        (WrongLabel, "poison must carry the label that the attack aims at"),
        (NoPlan, "choose returned tuple, expected a Plan"),
        (IgnoresGenerator, "choose takes the same samples whatever its generator"),
        (StampsInPlace, "stamp changed its input in place"),
        (StampsWrongShape, "stamp returned torch.float32 [38, 1, 28, 28], expected"),
        (StampsNothing, "the poison does next to nothing once images are rounded to 8 bits"),
        (ReturnsTwo, "on_batch must return three tensors: images, labels, roles"),
        (RolesOfAnotherType, "on_batch returned roles torch.int64 [64], expected torch.int8 [64]"),
        (ChangesInSecret, "on_batch changed "),
        (MislabelsCovers, "on_batch gave "),
        (BatchInPlace, "on_batch changed its input in place"),
        (PenaltyOfEach, "penalty returned [64], expected one finite number"),
        (NoNetwork, "tamper returned Access"),
        (OtherNetwork, "tamper returned a network of another architecture"),
        (GrowsInPrepare, "has another state after prepare (found): a buffer for what it learns"),
        (AimsAtItself, "trigger 0 applies to a class that it aims at"),
        (AppliesToNothing, "trigger 0 applies to no class"),
        (TwoAlike, "its triggers 0 and 1 stamp the same"),
        (CleanYetMoves, "makes no backdoor, yet its trigger moves pixels"),
        (ForgetsItsPattern, "stamps differently after its state was stored and loaded"),
        (Unlearned, "raised RuntimeError"),
    ],
)
def test_a_broken_attack_is_named_with_the_reason(plugin, reason):
    with pytest.raises(PluginError) as error:
        check_attack(plugin)
    assert str(error.value).startswith(f"attack '{plugin.__name__}': {reason}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("vandal", [InPlace, StampsInPlace, BatchInPlace])
def test_an_attack_that_writes_into_its_input_cannot_harm_the_data(vandal, digits):
    before = [part.images for part in (digits.train, digits.test)]
    with pytest.raises(PluginError, match="changed its input in place"):
        check_attack(vandal)
    for part, copy in zip((digits.train, digits.test), before, strict=True):
        assert torch.equal(part.images, copy)


def test_what_a_check_says_of_other_images_names_them():
    class GreyOnly(Stamps):
        def forward(self, images):
            return images.mean(1, keepdim=True) * 0.5

    with pytest.raises(PluginError) as error:
        check_attack(GreyOnly)
    assert str(error.value).startswith(
        "attack 'GreyOnly' for images [3, 32, 32] of 10 classes: forward returned torch.float32"
    )


def test_an_attack_that_is_built_already_is_checked_on_its_own_images():
    check_attack(ATTACKS.create("pixel", shape=(3, 20, 30), num_classes=5))
    with pytest.raises(PluginError, match=r"TooFaint' for images \[3, 20, 30\] of 5 classes: the"):
        check_attack(TooFaint(shape=(3, 20, 30), num_classes=5))
