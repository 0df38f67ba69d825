from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from bench import Cell
from bench.checks import check_defense
from bench.victims.provide import victim
from defenses import (
    DEFENSES,
    DefenderView,
    InputDetector,
    ModelDetector,
    ModelVerdict,
    Repair,
    SampleDetector,
    SampleVerdict,
)
from fixtures.augment import shifted
from fixtures.datasets import ImageSet
from fixtures.errors import PluginError


@pytest.mark.parametrize("name", DEFENSES.names())
def test_every_defense_conforms(name, quick):
    check_defense(name, **quick(name))


class Echo(nn.Module):
    """A model whose penultimate activations are its inputs."""

    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(width, 2)

    def forward(self, images):
        return self.head(images.flatten(1))


def blobs(count, centre, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, width, generator=generator) * 0.04 + 0.5
    points[:, 0] += centre
    return points.clamp(0, 1).view(count, 1, 1, width)


def view_of(suspect, suspect_labels, clean, clean_labels):
    return DefenderView(
        model=Echo(12),
        clean=ImageSet(clean, clean_labels),
        suspect=ImageSet(suspect, suspect_labels),
        num_classes=2,
        generator=torch.Generator().manual_seed(0),
    )


def test_clustering_flags_the_cluster_that_clean_data_do_not_know():
    suspect = torch.cat([blobs(400, -0.2), blobs(80, 0.3, seed=1), blobs(300, 0.0, seed=2)])
    labels = torch.tensor([0] * 480 + [1] * 300)
    clean = torch.cat([blobs(60, -0.2, seed=3), blobs(60, 0.0, seed=4)])
    view = view_of(suspect, labels, clean, torch.tensor([0] * 60 + [1] * 60))
    detector = DEFENSES.create("activation_clustering")
    flags = detector.detect(view).flags
    assert flags[400:480].all()
    assert not flags[:400].any()
    assert not flags[480:].any()
    assert [c["poisoned"] for c in detector.report["classes"]] == [True, False]


def test_clustering_leaves_a_natural_subclass_alone():
    suspect = torch.cat([blobs(400, -0.2), blobs(80, 0.3, seed=1)])
    clean = torch.cat([blobs(50, -0.2, seed=3), blobs(10, 0.3, seed=4)])
    view = view_of(suspect, torch.zeros(480).long(), clean, torch.zeros(60).long())
    assert not DEFENSES.create("activation_clustering").detect(view).flags.any()


def test_clusterings_verdict_permutes_with_the_data(workspace):
    few = {"poison_rate": 0.03}  # a small cluster: of a tenth the poison is half its class
    attacked = victim(Cell("digits", attack="pixel", attack_params=few), workspace)
    order = torch.randperm(attacked.suspect.size, generator=torch.Generator().manual_seed(1))

    def flags(suspect):
        view = dataclasses.replace(attacked.view(0), suspect=suspect)
        return DEFENSES.create("activation_clustering").detect(view).flags

    straight, permuted = flags(attacked.suspect), flags(attacked.suspect.take(order))
    assert straight.any()
    assert (straight[order] == permuted).float().mean() > 0.99


@pytest.fixture(scope="module")
def pruned(workspace):
    attacked = victim(Cell("digits", attack="pixel"), workspace)
    repair = DEFENSES.create("fine_pruning")
    return attacked, repair, repair.repair(attacked.view(0))


def test_pruned_channels_stay_dead_through_the_fine_tuning(pruned):
    _, repair, net = pruned
    weight = net.conv2.weight.detach()
    dead = (weight.flatten(1) == 0).all(1)
    assert int(dead.sum()) == repair.report["pruned"] > 0
    assert (net.conv2.bias[dead] == 0).all()


def test_the_least_active_channels_go_first(pruned):
    attacked, repair, _ = pruned
    with torch.no_grad():
        features = attacked.model.conv1(attacked.dataset.clean.images)
        features = torch.relu(attacked.model.pool(features))
        active = attacked.model.conv2(features).relu().mean((0, 2, 3))
    steps = {pruned: net.conv2.weight.flatten(1).any(1) for pruned, net in repair.trajectory()}
    first, last = ~steps[8], steps[56]
    assert int(first.sum()) == int(last.sum()) == 8
    assert active[first].mean() < active[last].mean() / 2


def test_pruning_stops_within_the_tolerance(pruned):
    _, repair, _ = pruned
    curve = {point["pruned"]: point["clean_accuracy"] for point in repair.report["curve"]}
    floor = curve[0] - repair.tolerance
    assert all(curve[k] >= floor for k in range(repair.report["pruned"] + 1))
    assert curve[max(curve)] < floor or max(curve) == repair.report["channels"] - 1


def test_the_path_starts_at_the_received_model(pruned):
    attacked, repair, _ = pruned
    steps = dict(repair.trajectory())
    assert torch.equal(steps[0].conv2.weight, attacked.model.conv2.weight)
    assert not steps[64].conv2.weight.any()


def test_the_received_model_is_not_changed(pruned, workspace):
    attacked, _, _ = pruned
    workspace.forget()  # read it from the disk again
    again = victim(Cell("digits", attack="pixel"), workspace)
    assert again is not attacked
    assert torch.equal(attacked.model.conv2.weight, again.model.conv2.weight)
    assert attacked.model.conv2.weight.flatten(1).any(1).all()


def test_pruning_needs_a_convolution():
    data = ImageSet(blobs(30, 0.0), torch.zeros(30).long())
    view = DefenderView(Echo(12), data, data, 2, torch.Generator())
    with pytest.raises(LookupError, match="Echo has no Conv2d layer"):
        DEFENSES.create("fine_pruning").repair(view)


def test_a_shift_moves_each_image_whole():
    images = torch.zeros(50, 1, 9, 9)
    images[:, :, 4, 4] = 1.0
    moved = shifted(images, 2, torch.Generator().manual_seed(0))
    places = moved.flatten(1).argmax(1)
    assert (moved.flatten(1).sum(1) == 1).all()
    assert len(set(places.tolist())) > 10
    rows, columns = places // 9 - 4, places % 9 - 4
    assert rows.abs().max() == columns.abs().max() == 2


class RaisesError(SampleDetector):
    def detect(self, view):
        return 1 / 0


class WrongType(SampleDetector):
    def detect(self, view):
        return view.suspect.labels == 0


class WrongLength(SampleDetector):
    def detect(self, view):
        return SampleVerdict(torch.zeros(3), torch.zeros(3).bool())


class NotBool(SampleDetector):
    def detect(self, view):
        return SampleVerdict(torch.zeros(view.suspect.size), torch.zeros(view.suspect.size))


class ByPosition(SampleDetector):
    def detect(self, view):
        flags = torch.arange(view.suspect.size) % 3 == 0
        return SampleVerdict(flags.double(), flags)


class Dice(InputDetector):
    throws = 0

    def screen(self, view, images):
        Dice.throws += 1
        return torch.full((len(images),), float(Dice.throws))


class NanScores(InputDetector):
    def screen(self, view, images):
        return torch.full((len(images),), float("nan"))


class AccusesNobody(ModelDetector):
    def inspect(self, view):
        return ModelVerdict(torch.zeros(view.num_classes), True, (12,))


class DropsAClass(Repair):
    def repair(self, view):
        view.model.head = nn.Linear(128, view.num_classes - 1)
        return view.model


class ReturnsNothing(Repair):
    def repair(self, view):
        view.model.eval()


class NoKind:
    pass


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (RaisesError, "raised ZeroDivisionError: division by zero (test_defenses.py:"),
        (WrongType, "detect returned Tensor"),
        (WrongLength, "detect's scores are [3], expected [600]"),
        (NotBool, "detect's flags are torch.float32 [600], expected bool [600]"),
        (ByPosition, "flags follow the samples' order: shuffled, only"),
        (Dice, "gives different results for the same view"),
        (NanScores, "screen returned NaN or infinite scores"),
        (AccusesNobody, "inspect accuses [12], outside 0 to 9"),
        (DropsAClass, "the repaired network returns [2, 9], expected [2, 10]"),
        (ReturnsNothing, "repair returned NoneType"),
        (NoKind, "is none of SampleDetector, ModelDetector, InputDetector, Repair"),
    ],
)
def test_a_broken_defense_is_named_with_the_reason(plugin, reason):
    with pytest.raises(PluginError) as error:
        check_defense(plugin)
    assert str(error.value).startswith(f"defense '{plugin.__name__}': {reason}")
    assert "\n" not in str(error.value)
