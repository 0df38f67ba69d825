from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from attacks import ATTACKS
from fixtures import datasets, models, training
from fixtures.errors import TrainingError
from fixtures.recipes import Recipe
from fixtures.training import fit


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def trained(digits, seed=0, **changes):
    net = models.build("simplecnn", digits, seed=seed)
    few = digits.train.take(torch.arange(400))
    losses = fit(
        net,
        few,
        Recipe(min_steps=60, **changes),
        generator=torch.Generator().manual_seed(seed),
    )
    return net, losses


def test_training_learns(digits):
    net, losses = trained(digits)
    assert losses[-1] < losses[0] / 3
    predicted = training.predict(net, digits.test.images).argmax(1)
    assert (predicted == digits.test.labels).float().mean() > 0.85


def test_the_same_seed_gives_the_same_weights_and_another_does_not(digits):
    first, again, other = (trained(digits, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_diverging_loss_is_one_clear_error(digits):
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in epoch \d+ of \d+"):
        trained(digits, peak_lr=1e30)


def test_penultimate_activations_are_what_the_last_layer_sees(digits):
    net, _ = trained(digits)
    images = digits.test.images[:300]
    seen = training.activations(net, images)
    assert seen.shape == (300, 128)
    logits = net.head(seen)
    assert torch.allclose(logits, training.predict(net, images), atol=0.15)


def test_a_layer_is_chosen_by_name_and_a_wrong_name_lists_them(digits):
    net, _ = trained(digits)
    assert training.activations(net, digits.test.images[:3], layer="conv2").shape == (3, 64 * 14**2)
    with pytest.raises(LookupError, match="no layer 'conv9'; the network has conv1, conv2"):
        training.activations(net, digits.test.images[:3], layer="conv9")


def test_predicting_leaves_the_mode_and_the_hooks_as_they_were(digits):
    net, _ = trained(digits)
    net.train()
    training.activations(net, digits.test.images[:3])
    assert net.training
    assert not net.head._forward_pre_hooks


def test_a_learned_trigger_is_optimised_with_the_model(digits):
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.amount = nn.Parameter(torch.zeros(()))

        def forward(self, images):
            return images + self.amount

    trigger = Shift()
    net = models.build("simplecnn", digits)
    fit(
        net,
        digits.train.take(torch.arange(128)),
        Recipe(epochs=1, min_steps=4),
        generator=torch.Generator(),
        learned=trigger.parameters(),
        on_batch=lambda images, labels, _: (trigger(images), labels),
    )
    assert trigger.amount.item() != 0


def run_few(digits, recipe, count=96, **hooks):
    """A network trained on few digits, and the losses of its epochs."""
    net = models.build("simplecnn", digits)
    few = digits.train.take(torch.arange(count))
    return net, fit(net, few, recipe, generator=torch.Generator().manual_seed(0), **hooks)


ONE = Recipe(epochs=1, min_steps=1)


def test_a_batch_is_handed_on_with_the_positions_of_its_images(digits):
    seen = []

    def on_batch(images, labels, index):
        assert torch.equal(images, digits.train.batch(index))
        assert torch.equal(labels, digits.train.labels[index])
        seen.extend(index.tolist())
        return images, labels

    run_few(digits, ONE, on_batch=on_batch)
    assert sorted(seen) == list(range(96))


def test_a_batch_is_handed_on_after_its_augmentation(digits):
    moved = []

    def on_batch(images, labels, index):
        moved.append((images != digits.train.batch(index)).flatten(1).any(1))
        return torch.zeros_like(images), labels

    def penalty(images, labels, logits):
        assert not images.any()  # what on_batch returned, and nothing is done to it afterwards
        return 0.0

    run_few(digits, Recipe(epochs=1, min_steps=1, shift=3), on_batch=on_batch, penalty=penalty)
    assert torch.cat(moved).float().mean() > 0.8


def test_a_loss_of_each_sample_takes_the_place_of_cross_entropy(digits):
    def loss(logits, labels, index):
        assert torch.equal(labels, digits.train.labels[index])
        return torch.where(index < 48, 2.0, 4.0) + 0 * logits.sum(1)

    _, losses = run_few(digits, ONE, loss=loss)
    assert losses == [pytest.approx(3.0)]


def test_the_penalty_is_a_further_term_of_the_loss_and_sees_the_batch(digits):
    def penalty(images, labels, logits):
        assert (len(images), len(logits)) == (len(labels),) * 2
        return logits.square().mean() * 100

    plain, losses = run_few(digits, ONE)
    pressed, more = run_few(digits, ONE, penalty=penalty)
    images = digits.test.images[:50]
    assert more[0] > losses[0]
    assert training.predict(pressed, images).norm() < training.predict(plain, images).norm()


def test_epochs_are_told_before_each_and_counted_from_nought(digits):
    told = []
    run_few(
        digits,
        Recipe(epochs=3, min_steps=1),
        on_epoch=lambda epoch, epochs: told.append((epoch, epochs)),
    )
    assert told == [(0, 3), (1, 3), (2, 3)]


def test_an_empty_set_is_one_clear_error(digits):
    with pytest.raises(ValueError, match="there is no image to train on"):
        run_few(digits, ONE, count=0)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_every_optimizer_learns_with_every_schedule(digits, optimizer, schedule):
    peak = 0.03 if optimizer == "sgd" else 2e-3
    recipe = Recipe(optimizer=optimizer, schedule=schedule, peak_lr=peak, min_steps=60)
    _, losses = run_few(digits, recipe, count=400)
    assert losses[-1] < losses[0] / 2


def test_smoothed_labels_hold_the_logits_back(digits):
    sharp, _ = run_few(digits, Recipe(min_steps=80))
    smooth, _ = run_few(digits, Recipe(min_steps=80, label_smoothing=0.3))
    images = digits.train.batch(torch.arange(96))
    confidence = [
        training.predict(net, images).softmax(1).amax(1).mean() for net in (sharp, smooth)
    ]
    assert confidence[1] < confidence[0] - 0.1


def test_reading_from_a_file_trains_the_same_network(digits, tmp_path):
    few = digits.train.take(torch.arange(96))
    stored = few.flattened(tmp_path / "few")
    nets = [models.build("simplecnn", digits) for _ in range(2)]
    for net, data in zip(nets, (few, stored), strict=True):
        fit(net, data, ONE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(nets[0].head.weight, nets[1].head.weight)


def test_a_set_and_its_tensor_are_predicted_alike(digits):
    net, _ = run_few(digits, ONE)
    few = digits.test.take(torch.arange(300))
    assert torch.equal(training.predict(net, few), training.predict(net, few.images))
    assert torch.equal(training.activations(net, few), training.activations(net, few.images))


def test_progress_is_told_after_every_epoch(digits):
    told = []
    fit(
        models.build("simplecnn", digits),
        digits.train.take(torch.arange(64)),
        Recipe(epochs=3, min_steps=1),
        generator=torch.Generator(),
        progress=lambda epoch, epochs, loss: told.append((epoch, epochs)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 17, 40)])
def test_simplecnn_adapts_to_the_images(shape):
    net = models.MODELS.create("simplecnn", shape=shape, num_classes=7)
    assert net(torch.zeros(2, *shape)).shape == (2, 7)


def test_building_a_model_leaves_the_callers_random_state_alone(digits):
    before = torch.get_rng_state()
    models.build("simplecnn", digits, seed=3)
    assert torch.equal(before, torch.get_rng_state())


class ValuesRead(TorchDispatchMode):
    """Counts how often Python asks for a tensor's value: on a GPU each of them waits for it."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        self.count += func in waits
        return func(*args, **(kwargs or {}))


def values_read(digits, name):
    """In three epochs of ten steps each."""
    net = models.build("simplecnn", digits)
    attack = ATTACKS.create(name, shape=digits.shape)
    roles = (torch.arange(320) % 10 == 0).to(torch.int8)

    def on_batch(images, labels, at):
        if attack.live:
            images, labels, _ = attack.on_batch(images, labels, roles[at], at, net, drawn)
        return images, labels

    drawn = torch.Generator()
    with ValuesRead() as values:
        fit(
            net,
            digits.train.take(torch.arange(320)),
            Recipe(epochs=3, min_steps=1),
            generator=torch.Generator(),
            learned=attack.trigger_parameters(),
            on_batch=on_batch,
        )
    return values.count


def test_python_reads_one_value_an_epoch_whatever_the_steps(digits):
    """Its loss. That much of a GPU's path can be tested on any machine."""
    assert values_read(digits, "pixel") == 3


def test_a_trigger_that_is_made_in_the_loop_reads_one_more_a_step(digits):
    """Which images of the batch are to be stamped."""
    assert values_read(digits, "patch") == 3 + 3 * 10
