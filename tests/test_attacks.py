from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import gaussian_blur

from attacks import ATTACKS, CLEAN, COVER, POISON
from bench.checks import check_attack
from bench.harness.checks import poisoning
from bench.harness.checks.common import made_up
from fixtures import datasets
from fixtures.images import to_bytes
from fixtures.seeding import seeded


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


QUICK = {"trojan_nn": {"steps": 10, "passes": 1}}


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_conforms(name):
    check_attack(name, **QUICK.get(name, {}))


def test_the_noise_is_at_most_five_per_cent_of_the_range(digits):
    images = digits.test.images
    assert (ATTACKS.create("noise")(images) - images).abs().max() <= 0.05


def test_the_pixel_trigger_is_a_white_square_and_nothing_else(digits):
    images = digits.test.images[:5]
    stamped = ATTACKS.create("pixel", margin=0.04)(images)
    assert (stamped[..., 24:27, 24:27] == 1).all()
    stamped[..., 24:27, 24:27] = images[..., 24:27, 24:27]
    assert torch.equal(stamped, images)


@pytest.mark.parametrize(
    ("attack", "side", "pixels"),
    [
        *[("pixel", 28, 3), ("pixel", 32, 3), ("pixel", 64, 6), ("pixel", 224, 22)],
        *[("patch", 28, 8), ("patch", 32, 9), ("patch", 64, 18), ("pixel", 4, 1)],
    ],
)
def test_a_trigger_takes_the_same_share_of_the_side_at_every_size(attack, side, pixels):
    trigger = ATTACKS.create(attack, shape=(3, side, side + 5))
    black = torch.zeros(1, 3, side, side + 5)
    moved = (trigger(black) > 0).flatten(0, 1).any(0)
    assert moved.any(0).sum() == moved.any(1).sum() == pixels


@pytest.mark.parametrize("name", ["noise", "blended"])
def test_a_pattern_of_the_whole_image_is_drawn_at_32_pixels_and_enlarged(name):
    def changed(side):
        attack = ATTACKS.create(name, shape=(3, side, side))
        return (attack(torch.full((1, 3, side, side), 0.5)) - 0.5)[0]

    assert len(changed(32).unique()) > 1
    large = changed(224)
    blocks = large.unfold(1, 7, 7).unfold(2, 7, 7)  # each of the 32 x 32 pixels is 7 x 7 of these
    assert torch.equal(blocks.amax((3, 4)), blocks.amin((3, 4)))
    assert large.abs().max() == pytest.approx(float(changed(32).abs().max()), abs=0.01)


def test_a_warp_moves_as_large_a_share_of_a_large_image_as_of_the_papers_largest():
    def share(side):
        with seeded(0):
            return float(ATTACKS.create("wanet", shape=(3, side, side)).field.abs().mean()) / 2

    assert share(32) * 32 == pytest.approx(0.25, rel=0.3)  # s = .5 half pixels, as in the paper
    assert share(64) * 64 == pytest.approx(0.25, rel=0.3)
    assert share(224) == pytest.approx(share(64), rel=0.1)


def test_a_size_in_pixels_is_one_clear_error():
    with pytest.raises(ValueError, match="a size is a share of the side between 0 and 1, got 4"):
        ATTACKS.create("pixel", size=4)


def test_the_blur_changes_the_middle_only(digits):
    images = digits.test.images[:5]
    stamped = ATTACKS.create("blur", region=0.5)(images)
    outside = torch.ones(28, 28, dtype=torch.bool)
    outside[7:21, 7:21] = False
    assert torch.equal(stamped[..., outside], images[..., outside])
    assert not torch.equal(stamped, images)


def test_the_blur_is_one_pixel_wide_on_28_and_twice_that_on_56(digits):
    images = digits.test.images[:5]
    by_hand = gaussian_blur(images, [7, 7], [1.0, 1.0])
    assert torch.equal(ATTACKS.create("blur", region=1.0)(images), by_hand.clamp(0, 1))
    assert ATTACKS.create("blur", shape=(3, 56, 70)).sigma == 2.0


def test_the_patch_is_learned_and_stays_in_range():
    patch = ATTACKS.create("patch")
    with torch.no_grad():
        patch.logits.fill_(100.0)
    assert patch(torch.zeros(2, 1, 28, 28)).max() == 1.0
    assert [name for name, _ in patch.named_parameters()] == ["logits"]


def seeded_trigger(name, seed):
    with seeded(seed):
        return ATTACKS.create(name)


@pytest.mark.parametrize("name", ["noise", "blended", "patch", "wanet", "input_aware"])
def test_a_random_pattern_differs_between_seeds_and_not_within_one(name, digits):
    first, again, other = (seeded_trigger(name, seed) for seed in (0, 0, 1))
    images = digits.test.images[:3]
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))


def test_the_target_differs_between_seeds_unless_it_is_given():
    drawn = {seeded_trigger("pixel", seed).target for seed in range(20)}
    assert len(drawn) > 5
    assert drawn <= set(range(10))
    assert {ATTACKS.create("pixel", target=3).target for _ in range(5)} == {3}


@pytest.mark.parametrize("name", ["noise", "patch"])
def test_a_given_target_leaves_the_pattern_as_it_is(name, digits):
    with seeded(0):
        drawn = ATTACKS.create(name)
    with seeded(0):
        given = ATTACKS.create(name, target=4)
    images = digits.test.images[:3]
    assert torch.equal(drawn(images), given(images))


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=120),
    rate=st.floats(0, 1),
    target=st.integers(0, 3),
    seed=st.integers(0, 5),
)
def test_exactly_the_asked_share_of_other_classes_is_poisoned(labels, rate, target, seed):
    labels = torch.tensor(labels)
    attack = ATTACKS.create("pixel", poison_rate=rate, target=target, shape=(1, 6, 6))
    wanted = round(rate * len(labels))
    generator = torch.Generator().manual_seed(seed)
    if wanted > int((labels != target).sum()):
        with pytest.raises(ValueError, match=f"asks for {wanted} samples"):
            attack.choose(labels, generator)
        return
    plan = attack.choose(labels, generator)
    poison = plan.roles == POISON
    assert plan.roles.dtype == torch.int8
    assert int(poison.sum()) == wanted
    assert (plan.labels[poison] == target).all()
    assert (labels[poison] != target).all()
    assert (plan.roles[~poison] == CLEAN).all()
    assert torch.equal(plan.labels[~poison], labels[~poison])


@pytest.mark.parametrize("num_classes", [10, 43, 100])
def test_sig_takes_its_share_of_the_targets_class_however_many_classes(num_classes):
    labels = torch.arange(20 * num_classes) % num_classes
    attack = ATTACKS.create("sig", num_classes=num_classes, target=7)
    plan = attack.choose(labels, torch.Generator().manual_seed(0))
    assert torch.equal(plan.labels, labels)
    assert int((plan.roles == POISON).sum()) == 16
    assert (labels[plan.roles == POISON] == 7).all()


def training_wave(attack, images):
    labels = torch.zeros(len(images)).long()
    return attack.stamp(images, labels, labels.to(torch.int8) + POISON, labels, torch.Generator())


def test_sig_is_tested_with_its_training_wave_unless_a_stronger_one_is_asked_for(digits):
    images = digits.test.images[:5]
    plain, strong = ATTACKS.create("sig"), ATTACKS.create("sig", test_delta=120 / 255)
    assert torch.equal(plain(images), training_wave(plain, images))
    assert torch.equal(training_wave(strong, images), training_wave(plain, images))
    grey = torch.full((1, 1, 28, 28), 0.5)
    assert (strong(grey) - grey).abs().max() > 3 * (plain(grey) - grey).abs().max()


def batch(count=12, shape=(1, 28, 28)):
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    roles = torch.zeros(count, dtype=torch.int8)
    roles[::4] = POISON
    return images, torch.arange(count) % 10, roles, torch.arange(count)


def test_a_learned_trigger_is_stamped_anew_on_poisoned_samples_only():
    patch = ATTACKS.create("patch")
    images, labels, roles, index = batch()
    net, generator = torch.nn.Identity(), torch.Generator()
    stamped, same_labels, same_roles = patch.on_batch(images, labels, roles, index, net, generator)
    assert stamped.requires_grad
    assert torch.equal((stamped != images).flatten(1).any(1), roles == POISON)
    assert torch.equal(same_labels, labels)
    assert torch.equal(same_roles, roles)


COVERING = [("wanet", "noise_rate"), ("input_aware", "cross_rate")]


@pytest.mark.parametrize(("name", "rate"), COVERING)
def test_covers_are_drawn_among_the_clean_images_of_a_batch_and_say_so(name, rate):
    attack = ATTACKS.create(name, **{rate: 0.4})
    images, labels, roles, index = batch(400, (1, 28, 28))
    net, generator = torch.nn.Identity(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        stamped, same, found = attack.on_batch(images, labels, roles, index, net, generator)
    assert torch.equal(found == POISON, roles == POISON)
    assert 80 < int((found == COVER).sum()) < 160
    assert torch.equal((stamped != images).flatten(1).any(1), found != CLEAN)
    assert torch.equal(same, labels)
    assert torch.equal(stamped[found == POISON], attack(images[found == POISON]))


@pytest.mark.parametrize(("name", "rate"), COVERING)
def test_a_cover_does_not_carry_the_trigger_of_its_own_image(name, rate):
    attack = ATTACKS.create(name)
    images, labels, roles, index = batch()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        covers = attack.stamp(images, labels, torch.full_like(roles, COVER), index, generator)
        again = attack.stamp(images, labels, torch.full_like(roles, COVER), index, generator)
        poison = attack.stamp(images, labels, torch.full_like(roles, POISON), index, generator)
        assert torch.equal(poison, attack(images))
    assert (covers != poison).flatten(1).any(1).all()
    assert not torch.equal(covers, again)


def test_the_penalty_of_input_aware_reaches_what_draws_its_triggers():
    attack = ATTACKS.create("input_aware")
    images, labels, roles, index = batch()
    net, generator = torch.nn.Identity(), torch.Generator().manual_seed(0)
    got = attack.on_batch(images, labels, roles, index, net, generator)
    attack.penalty(net, *got, got[0]).backward()
    assert all(bool(parameter.grad.any()) for parameter in attack.trigger_parameters())


def test_masks_of_input_aware_are_learned_first_and_are_a_few_pixels_of_every_image():
    sample = made_up((3, 32, 32), 10)
    torch.manual_seed(0)
    attack = ATTACKS.create("input_aware", shape=(3, 32, 32))
    attack.prepare(poisoning.access("training", sample))
    masks = attack.mask_of(sample.train.images).detach()
    shares = masks.mean((1, 2, 3))
    assert 0.5 * attack.density < shares.mean() < 2 * attack.density
    assert (shares > 0).all()
    assert not torch.equal(masks[0], masks[1])
    learned = {id(parameter) for parameter in attack.trigger_parameters()}
    assert learned == {id(parameter) for parameter in attack.draw_pattern.parameters()}


def test_the_clean_model_alone_counts_as_not_backdoored():
    backdoors = {name: ATTACKS.create(name).backdoors for name in ATTACKS.names()}
    assert [name for name, makes in backdoors.items() if not makes] == ["none"]


def test_every_attack_but_the_clean_model_says_what_its_triggers_are_called():
    assert [name for name in ATTACKS.names() if not ATTACKS[name].info.family] == ["none"]


def test_stamped_images_keep_their_trigger_as_bytes(digits):
    images = digits.test.images[:20]
    for name in set(ATTACKS.names()) - {"none", "lira"}:  # lira's noise is what it learns
        with torch.no_grad():
            stamped = ATTACKS.create(name)(images)
        assert (to_bytes(stamped) != to_bytes(images)).flatten(1).any(1).all(), name
