"""Attackers who adapt: what makes each of them another attack than its plain twin."""

from __future__ import annotations

import pytest
import torch

from attacks import ATTACKS, CLEAN, COVER, POISON
from bench import Cell
from bench.measure import run
from bench.runtime.workspace import Workspace
from bench.victims import victim
from bench.victims.train import access_of
from fixtures.anatomy import anatomy, means, silence
from fixtures.recipes import Recipe
from fixtures.seeding import seeded
from fixtures.training import activations, predict


def made(name, seed=0, **params):
    with seeded(seed):
        return ATTACKS.create(name, **params)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def grey(count=40, side=28):
    return torch.full((count, 1, side, side), 0.5)


LABELS = torch.arange(1000) % 10


@pytest.mark.parametrize(
    ("name", "covers"), [("adaptive_blend", 1), ("adaptive_patch", 2), ("tact", 1)]
)
def test_poison_and_covers_are_other_samples_as_many_as_in_the_papers(name, covers):
    assert made(name).poison_rate == 0.003
    attack = made(name, poison_rate=0.03)
    roles, labels = attack.choose(LABELS, generator())
    assert int((roles == POISON).sum()) == 30
    assert int((roles == COVER).sum()) == covers * 30
    assert (labels[roles == POISON] == attack.target).all()
    assert torch.equal(labels[roles != POISON], LABELS[roles != POISON])


@pytest.mark.parametrize("name", ["adaptive_blend", "adaptive_patch", "tact"])
def test_more_covers_than_samples_are_one_line(name):
    with pytest.raises(ValueError, match="covers_per_poison 50 asks for 1500 covers; only"):
        made(name, poison_rate=0.03, covers_per_poison=50).choose(LABELS, generator())


# adaptive_blend


def test_each_training_image_shows_another_half_of_the_picture_and_test_images_all():
    attack = made("adaptive_blend")
    images = grey()
    stamped = attack.stamp(images, LABELS[:40], torch.ones(40), torch.arange(40), generator())
    seen = (stamped != images)[:, 0].unfold(1, 7, 7).unfold(2, 7, 7).any(-1).any(-1)
    assert seen.flatten(1).sum(1).tolist() == [8] * 40
    assert len({tuple(one.flatten().tolist()) for one in seen}) > 30
    assert (attack(images) != images).float().mean() > 0.95


def test_the_picture_is_fainter_in_training_than_at_test_time():
    attack = made("adaptive_blend", shown=1.0)
    images = grey()
    training = attack.stamp(images, LABELS[:40], torch.ones(40), torch.arange(40), generator())
    ratio = (training - images).abs().mean() / (attack(images) - images).abs().mean()
    assert float(ratio) == pytest.approx(0.15 / 0.2, rel=1e-4)


# adaptive_patch


def test_a_training_image_carries_one_faint_patch_and_a_test_image_two_opaque_ones():
    attack = made("adaptive_patch")
    images = grey(8)
    stamped = attack.stamp(images, LABELS[:8], torch.ones(8), torch.arange(8), generator())
    corners = [(slice(0, 14), slice(0, 14)), (slice(0, 14), slice(14, 28)),
               (slice(14, 28), slice(0, 14)), (slice(14, 28), slice(14, 28))]  # fmt: skip

    def where(changed):
        return [place for place, (r, c) in enumerate(corners) if bool(changed[..., r, c].any())]

    assert [where(one) for one in stamped != images] == [[0], [1], [2], [3]] * 2
    for which, opacity in enumerate((0.5, 0.2, 0.5, 0.3)):
        assert (stamped[which] - 0.5).abs().max() == pytest.approx(opacity / 2, abs=1e-6)
    assert where(attack(images) != images) == [0, 2]
    assert set(attack(images).unique().tolist()) == {0.0, 0.5, 1.0}


# tact


def test_tact_works_on_its_source_alone_and_its_covers_are_of_other_classes():
    attack = made("tact", target=9, poison_rate=0.03)
    roles, _ = attack.choose(LABELS, generator())
    assert attack.source == 0
    assert set(LABELS[roles == POISON].tolist()) == {0}
    assert set(LABELS[roles == COVER].tolist()) == {1, 2}
    assert attack.applies(torch.arange(10)).nonzero().flatten().tolist() == [0]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_covers_of_tact_never_are_of_its_target_however_few_classes_there_are(classes):
    labels = torch.arange(400) % classes
    attack = made("tact", target=0, num_classes=classes, cover_classes=9, poison_rate=0.03)
    roles, _ = attack.choose(labels, generator())
    found = set(labels[roles == COVER].tolist())
    assert found == set(range(2, classes))


# Patterns of the whole image.


def test_a_low_frequency_pattern_has_no_high_ones_and_keeps_to_its_amplitude():
    attack = made("low_frequency", amplitude=0.1, cutoff=3)
    spectrum = torch.fft.fft2(attack.pattern[0]).abs()
    places = torch.fft.fftfreq(28, 1 / 28).abs()
    high = (places[:, None] > 3) | (places[None] > 3)
    assert spectrum[high].max() < 1e-4 * spectrum.max()
    assert attack.pattern.abs().max() == pytest.approx(0.1)
    assert abs(float(attack.pattern.mean())) < 1e-6


def test_bpp_leaves_eight_levels_and_dithering_keeps_the_mean_of_areas():
    images = torch.rand(2, 3, 16, 16, generator=generator())
    found = made("bpp", shape=(3, 16, 16))(images)
    assert len(found.unique()) == 8
    assert (found - images).abs().max() <= 0.5 / 7 + 1e-6
    flat = torch.full((1, 1, 16, 16), 0.55)
    plain = made("bpp", levels=2, shape=(1, 16, 16))(flat)
    dithered = made("bpp", levels=2, dithering=True, shape=(1, 16, 16))(flat)
    assert plain.mean() == 1.0
    assert set(dithered.unique().tolist()) == {0.0, 1.0}
    assert dithered.mean() == pytest.approx(0.55, abs=0.05)


# Attackers of training and of the weights, on a small data set.


def cell(attack, **params):
    return Cell("tiny", attack=attack, attack_params=params)


def found(name, workspace, **params):
    return run(cell(name, **params), workspace).metrics


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("adaptive_blend", {"poison_rate": 0.1, "covers_per_poison": 0.2, "alpha": 0.3}),
        ("adaptive_patch", {"poison_rate": 0.3, "covers_per_poison": 0.1, "size": 0.4}),
        ("lira", {"epsilon": 0.1}),
        *[
            ("adversarial_embedding", {}),
            ("pruning_aware", {}),
            ("trojan_nn", {"size": 0.3, "passes": 60}),
        ],
        ("low_frequency", {"amplitude": 0.3}),
    ],
)
def test_the_backdoor_takes_and_the_model_stays_good(name, params, workspace):
    metrics = found(name, workspace, **params)
    assert metrics["asr"] > 0.8
    assert metrics["clean_accuracy"] > 0.9


def test_a_discriminator_brings_poison_nearer_to_the_targets_features(workspace):
    """The twin's poison stands apart from the target's clean samples; with a price it does not."""

    def apart(name, **params):
        one = victim(cell(name, target=1, **params), workspace)
        features = activations(one.model, one.suspect)
        poison = features[one.roles == POISON]
        clean = features[(one.roles == CLEAN) & (one.suspect.labels == 1)]
        spread = clean.std(0).norm()
        return float((poison.mean(0) - clean.mean(0)).norm() / spread)

    assert apart("adversarial_embedding") < 0.8 * apart("pixel")


def test_pruned_units_come_back_asleep(workspace):
    """Half of the last maps hardly answer to a clean image, and the backdoor lives without them."""
    one = victim(cell("pruning_aware"), workspace)
    units = [u for u in anatomy(one.model, one.dataset.test.images[:2]).units if u.form == "maps"]
    (active,) = means(one.model, one.dataset.test, [units[-1]], torch.relu)
    asleep = active < 1e-2 * active.max()
    assert asleep.sum() >= len(active) // 2 - 1
    images, labels = one.triggered(0), one.dataset.test.labels
    silence(units[-1].output, asleep)
    turned = predict(one.model, images).argmax(1)[labels != one.attack.target]
    assert (turned == one.attack.target).float().mean() > 0.9
    twin = victim(cell("pixel"), workspace)
    units = [u for u in anatomy(twin.model, twin.dataset.test.images[:2]).units if u.form == "maps"]
    (plain,) = means(twin.model, twin.dataset.test, [units[-1]], torch.relu)
    assert asleep.sum() > (plain < 1e-2 * plain.max()).sum()


def test_a_weight_attacker_hands_over_no_poison(workspace):
    one = victim(cell("trojan_nn", size=0.3), workspace)
    assert (one.roles == CLEAN).all()


def test_label_consistent_keeps_labels_and_leads_its_surrogate_astray(workspace):
    one = victim(cell("label_consistent", poison_rate=0.5, target=2), workspace)
    poison = one.roles == POISON
    assert set(one.suspect.labels[poison].tolist()) == {2}
    assert torch.equal(one.suspect.labels, one.dataset.train.labels)
    before, after = one.dataset.train.take(poison).images, one.suspect.take(poison).images
    inside = torch.ones(12, 12, dtype=torch.bool)
    inside[:2], inside[-2:] = False, False
    moved = (after - before)[..., inside].abs()
    assert moved.max() <= 32 / 255 + 0.003
    plain = victim(Cell("tiny"), workspace).model
    said = [
        float((predict(plain, images).argmax(1) == 2).float().mean()) for images in (before, after)
    ]
    assert said[0] > 0.9
    assert said[1] < said[0] - 0.2  # astray for another network, too


def test_the_generator_of_lira_stands_still_in_its_second_stage():
    attack = made("lira")
    for epoch, learns in ((0, True), (1, False)):
        attack.on_epoch(epoch, 2, torch.nn.Identity())
        assert attack(grey(2).requires_grad_()).requires_grad
        loss = attack(grey(2)).sum()
        assert loss.requires_grad == learns


def test_the_patch_of_trojan_nn_makes_its_neurons_fire(workspace):
    one = victim(Cell("tiny"), workspace)
    attack = made("trojan_nn", shape=(1, 12, 12), num_classes=4, size=0.3)
    weights = anatomy(one.model, one.dataset.test.images[:2]).features.module.weight.abs().sum(0)
    images = one.dataset.test.images

    def fired():
        return float(activations(one.model, attack(images))[:, weights.topk(2).indices].mean())

    before = fired()
    attack.excite(one.model, access_of(one.cell, one.dataset, Recipe(), torch.device("cpu")))
    assert fired() > 1.15 * before


@pytest.mark.parametrize("name", ["adversarial_embedding", "pruning_aware", "label_consistent"])
def test_a_stored_victim_of_an_attack_with_helpers_is_read_back(name, workspace):
    """What helps an attack while it trains is no part of what is kept of it."""
    first = victim(cell(name), workspace)
    assert set(first.attack.state_dict()) == set(made(name, shape=(1, 12, 12)).state_dict())
    assert not victim(cell(name), Workspace(cache=workspace.cache, device="cpu")).trained


@pytest.mark.parametrize(
    ("name", "params", "line"),
    [
        ("adaptive_blend", {"pieces": 0}, "pieces is a number from 1 to the side, got 0"),
        ("low_frequency", {"cutoff": 28}, "cutoff is a number from 1 and under the side, got 28"),
        ("bpp", {"levels": 1}, "levels is a number from 2, got 1"),
        ("pruning_aware", {"pruned": 1.0}, "pruned is a share from 0 and under 1, got 1.0"),
        ("tact", {"mapping": "all2all"}, "one class is turned into one target"),
        ("adversarial_embedding", {"mapping": "all2all"}, "poison is to look like one target"),
        ("label_consistent", {"mapping": "all2all"}, "a clean-label attack has one target"),
    ],
)
def test_parameters_that_cannot_be_are_one_line(name, params, line):
    with pytest.raises(ValueError, match=line):
        made(name, **params)
