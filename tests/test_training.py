from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from attacks import ATTACKS
from fixtures import datasets, models, training
from fixtures.datasets import ImageSet
from fixtures.errors import TrainingError
from fixtures.training import Recipe, fit


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


def test_small_data_get_small_batches_and_many_passes():
    recipe = Recipe(epochs=2, min_steps=800, batch_size=128, min_batches=40)
    assert (recipe.batch(57_000), recipe.passes(57_000)) == (128, 2)
    assert (recipe.batch(1_368), recipe.passes(1_368)) == (34, 20)
    assert recipe.batch(10) == 32


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
        ImageSet(digits.train.images[:128], digits.train.labels[:128]),
        Recipe(epochs=1, min_steps=4),
        generator=torch.Generator(),
        trigger=trigger,
        on_batch=lambda images, labels, _: (trigger(images), labels),
    )
    assert trigger.amount.item() != 0


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


@pytest.mark.parametrize("name", ["pixel", "patch"])
def test_python_reads_one_value_an_epoch_whatever_the_steps(digits, name):
    """Its loss. That much of a GPU's path can be tested on any machine."""
    net = models.build("simplecnn", digits)
    attack = ATTACKS.create(name, shape=digits.shape)
    few = digits.train.take(torch.arange(320))
    poisoned = torch.arange(320) % 10 == 0
    with ValuesRead() as values:
        fit(
            net,
            few,
            Recipe(epochs=3, min_steps=1),
            generator=torch.Generator(),
            trigger=attack,
            on_batch=lambda images, labels, at: attack.on_batch(images, labels, poisoned[at]),
        )
    assert values.count == 3
