"""Re-activation: a backdoor that is only hidden comes back, and one that is gone does not."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from attacks import CLEAN
from bench import Cell, run
from bench.judge import reactivation as search
from bench.judge.networks import measure
from bench.judge.reactivation import BOUND, adjusted_asr, common_change, reactivation, sought_on
from bench.measure import resolve
from bench.victims.provide import victim
from fixtures.images import ImageSet, to_bytes

PIXEL = Cell("tiny", attack="pixel")


@pytest.fixture(scope="module")
def attacked(workspace):
    return victim(PIXEL, workspace)


@pytest.fixture(scope="module")
def clean(workspace):
    return victim(Cell("tiny", attack="none"), workspace)


@pytest.fixture
def trained_afresh(attacked):
    """What a defender has who throws the victim away and trains on its clean images."""
    view = attacked.view(3, frozenset({"clean"}))
    return view.train(view.clean)


@pytest.fixture
def brief(monkeypatch):
    """A search of a tenth of the steps, where it is not about what it reaches."""
    monkeypatch.setattr(search, "STEPS", 10)


def hidden(attacked, limit=0.1):
    """The victim with its target's logit lowered until the trigger hardly works any more."""
    net = copy.deepcopy(attacked.model)
    with torch.no_grad():
        while measure(net, attacked)["asr"] > limit:
            net.head.bias[attacked.attack.target] -= 0.25
    return net


def test_a_backdoor_that_is_only_hidden_is_reactivated(attacked, clean):
    net = hidden(attacked)
    assert measure(net, attacked)["asr"] <= 0.1
    assert reactivation(net, attacked, clean, seed=0) > 0.2


def test_a_network_that_never_met_the_trigger_is_not(attacked, clean, trained_afresh):
    assert reactivation(trained_afresh, attacked, clean, seed=0) == pytest.approx(0, abs=0.1)


@pytest.mark.usefixtures("brief")
def test_what_the_search_reaches_on_a_clean_model_is_taken_off(attacked, clean):
    assert reactivation(clean.model, attacked, clean, seed=0) == 0
    reached = adjusted_asr(attacked.model, attacked, 0)
    without = adjusted_asr(clean.model, attacked, 0)
    assert reactivation(attacked.model, attacked, clean, seed=0) == reached - without


@pytest.mark.usefixtures("brief")
def test_it_may_be_negative(attacked, clean):
    """Cut off at 0, harmless repairs would show half their scatter as a backdoor."""
    never = copy.deepcopy(clean.model)
    with torch.no_grad():
        never.head.bias[attacked.attack.target] -= 1000
    found = reactivation(never, attacked, attacked, seed=0)  # the victim in the clean one's place
    assert found == -adjusted_asr(attacked.model, attacked, 0) < -0.9


@pytest.mark.usefixtures("brief")
def test_the_clean_models_figure_is_found_once_for_a_victim(attacked, clean, monkeypatch):
    searched = []
    original = search.common_change

    def spy(net, *given):
        searched.append(net)
        return original(net, *given)

    monkeypatch.setattr(search, "common_change", spy)
    other = dataclasses.replace(attacked)  # the same, with nothing found yet
    for _ in range(2):
        reactivation(attacked.model, other, clean, seed=0)
    assert [net is clean.model for net in searched].count(True) == 1


@pytest.mark.usefixtures("brief")
def test_the_same_seed_gives_the_same_figure(attacked):
    net = hidden(attacked)
    assert adjusted_asr(net, attacked, 1) == adjusted_asr(net, attacked, 1)


class Linear(nn.Module):
    """Class 1 by a weighted sum of the pixels; notes how it was run and draws as it runs."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.inner = nn.Dropout()
        self.modes, self.dtypes, self.batches = set(), set(), []

    def forward(self, images):
        self.modes.add((self.training, self.inner.training))
        score = torch.einsum("nchw,chw->n", images, self.weights)
        self.dtypes.add((images.reshape(len(images), -1) @ self.weights.flatten()).dtype)
        self.batches.append(images.detach().clone())
        return torch.stack([torch.zeros_like(score), score], 1)


@pytest.fixture
def grey():
    """Grey images, half of them black where the others are white."""
    images = torch.full((100, 1, 4, 4), 0.5)
    images[::2, :, 0] = 0.0
    images[1::2, :, 0] = 1.0
    return ImageSet(images, torch.zeros(100).long())


@pytest.fixture
def weights():
    return torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_of_a_linear_network_the_common_change_is_the_bound_along_its_weights(grey, weights):
    net = Linear(weights)
    delta = common_change(net, grey, torch.ones(100).long(), seed=0)
    assert torch.allclose(delta, BOUND * weights.sign())
    away = common_change(net, grey, torch.zeros(100).long(), seed=0)
    assert torch.allclose(away, -BOUND * weights.sign())


class Turned(Linear):
    """As its parent, but the other way round where the first pixel is black."""

    def forward(self, images):
        logits = super().forward(images)
        return torch.where(images[:, 0, 0, :1] < 0.5, -logits, logits)


def test_each_image_is_asked_for_its_own_aim(grey, weights):
    """As under an all-to-all attack: of the black ones the aim is another than of the others."""
    aims = torch.arange(100) % 2
    assert torch.equal(grey.images[:, 0, 0, 0] < 0.5, aims == 0)
    delta = common_change(Turned(weights), grey, aims, seed=0)
    assert torch.allclose(delta, BOUND * weights.sign())


def test_the_network_is_left_as_it_was(grey, weights):
    net = Linear(weights)
    net.train()
    net.inner.eval()
    net.weights.requires_grad_(False)
    common_change(net, grey, torch.ones(100).long(), seed=0)
    assert net.modes == {(False, False)}
    assert net.training
    assert not net.inner.training
    assert net.weights.grad is None
    assert not net.weights.requires_grad
    net.weights.requires_grad_(True)
    common_change(net, grey, torch.ones(100).long(), seed=0)
    assert net.weights.grad is None
    assert torch.equal(net.weights, weights)


def test_the_search_is_in_single_precision_and_keeps_images_in_range(grey, weights):
    net = Linear(weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        common_change(net, grey, torch.ones(100).long(), seed=0)
    assert net.dtypes == {torch.float32}
    seen = torch.cat(net.batches)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1


class NoGradient(nn.Module):
    """Gives the answers of another network in some way that no gradient passes."""

    def __init__(self, net, way):
        super().__init__()
        self.net, self.way = net, way

    def forward(self, images):
        return self.way(self.net, images)


def without_gradient(net, images):
    with torch.no_grad():
        return net(images)


def by_inference(net, images):
    with torch.inference_mode():
        return net(images)


@pytest.mark.parametrize(
    "way",
    [
        without_gradient,
        by_inference,
        lambda net, images: net(images.detach()),
        lambda net, images: net(images.mul(255).round().div(255)),
        lambda net, images: nn.functional.one_hot(net(images).argmax(1), 4).float(),
    ],
    ids=["no_grad", "inference", "detached", "rounded", "votes"],
)
@pytest.mark.usefixtures("brief")
def test_where_no_gradient_flows_there_is_no_figure(way, attacked, clean):
    net = NoGradient(copy.deepcopy(attacked.model), way)
    assert reactivation(net, attacked, clean, seed=0) is None


@pytest.mark.usefixtures("hooks")
def test_it_is_sought_on_unpoisoned_training_images_of_classes_that_the_trigger_works_on(workspace):
    attacked = victim(Cell("tiny", attack="by_source", attack_params={"target": 1}), workspace)
    attack, train = attacked.attack, attacked.dataset.train
    images, aims = sought_on(attacked, 0, seed=0)
    assert set(images.labels.tolist()) == {attack.source}
    assert set(aims.tolist()) == {1}
    source = train.take((attacked.roles == CLEAN) & (train.labels == attack.source))
    stamped = to_bytes(attack(source.images))
    assert sorted(i.numpy().tobytes() for i in stamped) == sorted(
        i.numpy().tobytes() for i in images.bytes(torch.arange(len(images)))
    )


def test_it_is_sought_on_no_more_than_some_images_drawn_by_seed(attacked, monkeypatch):
    monkeypatch.setattr(search, "IMAGES", 20)
    one, again, other = (sought_on(attacked, 0, seed)[0].images for seed in (0, 0, 1))
    assert len(one) == 20
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.usefixtures("hooks")
@pytest.mark.usefixtures("brief")
def test_every_trigger_has_a_change_of_its_own(workspace, monkeypatch):
    attacked = victim(Cell("tiny", attack="two_squares", attack_params={"target": 2}), workspace)
    wanted = []

    def spy(net, images, aims, seed):
        wanted.append(set(aims.tolist()))
        return common_change(net, images, aims, seed)

    monkeypatch.setattr(search, "common_change", spy)
    assert adjusted_asr(attacked.model, attacked, 0) >= measure(attacked.model, attacked)["asr"]
    assert wanted == [{2}, {3}]


class Watches(nn.Module):
    """Keeps what it is asked outside the search."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, images):
        if not torch.is_grad_enabled():
            self.seen.append(images.clone())
        return self.net(images)


@pytest.mark.usefixtures("brief")
def test_adjusted_test_images_are_bytes_near_the_triggered_ones(attacked):
    net = Watches(copy.deepcopy(attacked.model))
    adjusted_asr(net, attacked, 0)
    seen = torch.cat(net.seen).contiguous()
    labels = attacked.dataset.test.labels
    triggered = attacked.triggered().take(labels != attacked.attack.target).images
    assert torch.equal(to_bytes(seen).float() / 255, seen)
    assert 7 / 255 < float((seen - triggered).abs().max()) <= BOUND + 1e-6


@pytest.mark.usefixtures("brief")
def test_a_repairs_record_says_whether_its_backdoor_is_asleep(workspace):
    record = run(dataclasses.replace(PIXEL, defense="fine_tuning"), workspace)
    assert -1 <= record.metrics["reactivation"] <= 1
    clean = run(Cell("tiny", attack="none", defense="fine_tuning"), workspace)
    assert "reactivation" not in clean.metrics


def test_repairs_and_trainings_of_backdoored_victims_get_the_clean_twin(workspace):
    def needs(attack, defense):
        job = resolve(Cell("tiny", attack=attack, defense=defense), workspace)
        return [needed.cell.attack for needed in job.needs]

    assert needs("pixel", "fine_pruning") == ["pixel", "none"]
    assert needs("none", "fine_pruning") == ["none"]
    assert needs("pixel", "strip") == ["pixel"]


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_the_same_backdoor_is_reactivated_on_every_device(device, attacked, clean):
    net = hidden(attacked).to(device)
    assert adjusted_asr(net, attacked, 0) > 0.2
