from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bench import Cell
from bench.checks import check_defense
from bench.victims.provide import victim
from defenses import (
    DEFENSES,
    Certificate,
    Certified,
    InputDetector,
    ModelDetector,
    ModelVerdict,
    Repair,
    SampleDetector,
    SampleVerdict,
    Training,
)
from defenses.spectral_signatures import signature
from fixtures.augment import shifted
from fixtures.errors import PluginError
from fixtures.images import ImageSet
from fixtures.training import predict


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


def test_clustering_flags_the_cluster_that_clean_data_do_not_know(view_of):
    suspect = torch.cat([blobs(400, -0.2), blobs(80, 0.3, seed=1), blobs(300, 0.0, seed=2)])
    labels = torch.tensor([0] * 480 + [1] * 300)
    clean = torch.cat([blobs(60, -0.2, seed=3), blobs(60, 0.0, seed=4)])
    known = ImageSet(clean, torch.tensor([0] * 60 + [1] * 60))
    view = view_of(Echo(12), known, ImageSet(suspect, labels))
    detector = DEFENSES.create("activation_clustering")
    flags = detector.detect(view).flags
    assert flags[400:480].all()
    assert not flags[:400].any()
    assert not flags[480:].any()
    assert [c["poisoned"] for c in detector.report["classes"]] == [True, False]


def test_clustering_leaves_a_natural_subclass_alone(view_of):
    suspect = torch.cat([blobs(400, -0.2), blobs(80, 0.3, seed=1)])
    clean = torch.cat([blobs(50, -0.2, seed=3), blobs(10, 0.3, seed=4)])
    known = ImageSet(clean, torch.zeros(60).long())
    view = view_of(Echo(12), known, ImageSet(suspect, torch.zeros(480).long()))
    assert not DEFENSES.create("activation_clustering").detect(view).flags.any()


def test_clusterings_verdict_permutes_with_the_data(workspace, view_of):
    few = {"poison_rate": 0.03}  # a small cluster: of a tenth the poison is half its class
    attacked = victim(Cell("digits", attack="pixel", attack_params=few), workspace)
    order = torch.randperm(len(attacked.suspect), generator=torch.Generator().manual_seed(1))

    def flags(suspect):
        classes = len(attacked.dataset.classes)
        view = view_of(attacked.model, attacked.clean(None), suspect, classes=classes)
        return DEFENSES.create("activation_clustering").detect(view).flags

    straight, permuted = flags(attacked.suspect), flags(attacked.suspect.take(order))
    assert straight.any()
    assert (straight[order] == permuted).float().mean() > 0.99


@pytest.fixture(scope="module")
def pruned(workspace):
    attacked = victim(Cell("digits", attack="pixel"), workspace)
    repair = DEFENSES.create("fine_pruning")
    return attacked, repair, repair.repair(attacked.view(0, repair.sees))


def test_pruned_channels_stay_dead_through_the_fine_tuning(pruned):
    _, repair, net = pruned
    weight = net.conv2.weight.detach()
    dead = (weight.flatten(1) == 0).all(1)
    assert int(dead.sum()) == repair.report["pruned"] > 0
    assert (net.conv2.bias[dead] == 0).all()


def test_the_least_active_channels_go_first(pruned):
    attacked, repair, _ = pruned
    with torch.no_grad():
        features = attacked.model.conv1(attacked.clean(None).images)
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
    assert curve[max(curve)] < floor or max(curve) == repair.report["units"] - 1


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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fine_pruning", "Echo has no layer whose units can be silenced"),
        ("nad", "Echo has no maps or tokens on the way"),
        ("anp", "Echo has no layer with a bias before its last one"),
    ],
)
def test_what_a_network_lacks_rules_a_defense_out(name, reason, view_of):
    data = ImageSet(blobs(30, 0.0), torch.zeros(30).long())
    assert DEFENSES.create(name).supports(view_of(Echo(12), data)) == reason


class Headless(nn.Module):
    """Its logits are maps, averaged: no linear layer comes last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


@pytest.mark.parametrize(
    "name", ["activation_clustering", "spectral_signatures", "spectral_signatures_epsilon"]
)
def test_without_features_there_is_nothing_to_cluster(name, view_of):
    data = ImageSet(blobs(30, 0.0), torch.zeros(30).long())
    reason = DEFENSES.create(name).supports(view_of(Headless(), data))
    assert reason == "Headless does not end in a linear layer"


@pytest.mark.parametrize("name", ["activation_clustering", "spectral_signatures_epsilon"])
def test_of_a_label_too_large_to_hold_a_share_is_looked_at_and_all_are_scored(
    name, view_of, monkeypatch
):
    suspect = torch.cat([blobs(400, -0.2), blobs(80, 0.3, seed=1)])
    suspect = ImageSet(suspect, torch.zeros(480).long())
    known = ImageSet(blobs(60, -0.2, seed=3), torch.zeros(60).long())
    whole = DEFENSES.create(name).detect(view_of(Echo(12), known, suspect))
    monkeypatch.setattr("defenses.view.LABEL_BYTES", 100 * 12 * 4)  # of 480
    monkeypatch.setattr("defenses.view.ACTIVATIONS_AT_A_TIME", 70)
    (held,) = list(view_of(Echo(12), known, suspect).by_label())[:1]
    assert len(held.points) == 96
    some = DEFENSES.create(name).detect(view_of(Echo(12), known, suspect))
    assert whole.flags[400:].float().mean() > 0.5
    assert (whole.flags == some.flags).float().mean() > 0.98


def test_the_papers_rule_flags_one_and_a_half_epsilon_of_every_label_and_needs_no_clean_image(
    view_of,
):
    suspect = torch.cat([blobs(380, -0.2), blobs(20, 0.3, seed=1), blobs(200, 0.0, seed=2)])
    labels = torch.tensor([0] * 400 + [1] * 200)
    detector = DEFENSES.create("spectral_signatures_epsilon", epsilon=0.05)
    assert "clean" not in detector.sees
    flags = detector.detect(view_of(Echo(12), None, ImageSet(suspect, labels))).flags
    assert [int(flags[labels == label].sum()) for label in (0, 1)] == [30, 15]
    assert flags[380:400].all()


def test_the_first_singular_vector_is_the_same_from_either_side():
    wide = torch.randn(40, 90, generator=torch.Generator().manual_seed(0)).double().numpy()
    mean, direction = signature(wide)
    _, _, vectors = np.linalg.svd(wide - wide.mean(0))
    assert np.allclose(mean, wide.mean(0))
    assert abs(float(direction @ vectors[0])) == pytest.approx(1.0)
    _, tall = signature(wide.T)
    _, _, vectors = np.linalg.svd(wide.T - wide.T.mean(0))
    assert abs(float(tall @ vectors[0])) == pytest.approx(1.0)


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
        return SampleVerdict(torch.zeros(len(view.suspect)), torch.zeros(len(view.suspect)))


class ByPosition(SampleDetector):
    def detect(self, view):
        flags = torch.arange(len(view.suspect)) % 3 == 0
        return SampleVerdict(flags.double(), flags)


class Uncalibrated(InputDetector):
    def screen(self, images):
        return torch.zeros(len(images))


class Ready(InputDetector):
    def calibrate(self, view):
        self.threshold = 0.5


class Dice(Ready):
    throws = 0

    def screen(self, images):
        Dice.throws += 1
        return torch.full((len(images),), float(Dice.throws))


class NanScores(Ready):
    def screen(self, images):
        return torch.full((len(images),), float("nan"))


class NanThreshold(Ready):
    def calibrate(self, view):
        self.threshold = float("nan")


class Scribbles(Ready):
    def screen(self, images):
        return images.mul_(0.5).sum((1, 2, 3))


class OneForAll(Ready):
    def screen(self, images):
        return images.mean()[None]


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


class SeesDouble(Repair):
    sees = frozenset({"model", "future", "trigger"})


class SeesItsResult(Training):
    sees = frozenset({"model", "suspect"})


class Peeks(Repair):
    def repair(self, view):
        return view.train(view.suspect)


class PeeksInVain(Repair):
    """What it asks for is None, and it goes on."""

    def repair(self, view):
        return view.model if view.suspect is None else None


class PeeksBefore(Repair):
    def supports(self, view):
        return "too few" if len(view.suspect) < 10 else None


class PeeksAtInputs(Ready):
    sees = frozenset({"clean"})

    def calibrate(self, view):
        self.view = view

    def screen(self, images):
        return predict(self.view.model, images).amax(1)


class TrainsNothing(Training):
    def train(self, view):
        return [view.fresh()]


class Unproven(Certified):
    def train(self, view):
        return view.fresh()


class Constant(nn.Module):
    """Calls everything class 3 and certifies whatever it is told to."""

    def __init__(self, certificate):
        super().__init__()
        self.logits = nn.Parameter(torch.eye(10)[3])
        self.certificate = certificate

    def forward(self, images):
        return self.logits.expand(len(images), -1)

    def certify(self, images):
        found = self.certificate(len(images))
        return found if isinstance(found, str) else Certificate(*found)


def certifies(name, certificate):
    """A certified training of that name, whose network certifies so."""
    return type(name, (Certified,), {"train": lambda _self, _view: Constant(certificate)})


def all_of(value, kind=torch.int64):
    return lambda count: torch.full((count,), value, dtype=kind)


three, none, unit = all_of(3), all_of(0), "modification"

CERTIFIES = [
    (certifies("Says", lambda n: "trust me"), "certify returned str, expected Certificate"),
    (
        certifies("Floats", lambda n: (three(n), all_of(1.5, torch.float32)(n), unit)),
        "certify's radius is torch.float32 [48], expected torch.int64 [48]",
    ),
    (
        certifies("Short", lambda n: (three(n)[:5], none(n), unit)),
        "certify's labels is torch.int64 [5], expected torch.int64 [48]",
    ),
    (
        certifies("Eleventh", lambda n: (all_of(10)(n), none(n), unit)),
        "certify's labels lie outside 0 to 9",
    ),
    (
        certifies("Negative", lambda n: (three(n), all_of(-2)(n), unit)),
        "certify's radius is under -1, which is to abstain",
    ),
    (
        certifies("Pixels", lambda n: (three(n), none(n), "pixel")),
        "certify's unit is 'pixel', expected one of insertion or deletion, modification",
    ),
    (
        certifies("Perhaps", lambda n: (three(n), none(n), unit, 1.0)),
        "certify's alpha is 1.0, expected a share from 0 to less than 1",
    ),
    (
        certifies("SaysAnother", lambda n: (all_of(4)(n), none(n), unit)),
        "its network says what it certifies for only 0 of 48 images",
    ),
]


class NoKind:
    pass


class OnlyInGrey(Repair):
    def supports(self, view):
        return "images must be grey" if view.shape[0] > 1 else None

    def repair(self, view):
        return view.model


def test_small_victims_that_a_defense_rules_out_are_told_and_the_others_are_run():
    message = "^defense 'OnlyInGrey' does not apply to 2 of 4 small victims: images must be grey$"
    with pytest.warns(UserWarning, match=message) as caught:
        check_defense(OnlyInGrey)
    assert len(caught) == 1


class OnlyOfTen(Repair):
    def repair(self, view):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))


def test_what_fails_on_many_classes_says_where():
    where = r"for images \[1, 28, 28\] of 43 classes: repair's network returns \[2, 10\]"
    with pytest.raises(PluginError, match=where):
        check_defense(OnlyOfTen)


class MixesBatches(Ready):
    """Scores depend on what else is screened, which a detector may do; they repeat."""

    def screen(self, images):
        return (images - images.mean(0)).square().mean((1, 2, 3))


def test_a_detector_may_look_at_its_batch():
    check_defense(MixesBatches)


class WritesLabels(SampleDetector):
    def detect(self, view):
        view.suspect.labels.zero_()
        flags = view.suspect.labels == 0
        return SampleVerdict(flags.double(), flags)


def test_labels_that_a_defense_overwrites_are_its_own(workspace):
    attacked = victim(Cell("tiny", attack="pixel"), workspace)
    before = attacked.suspect.labels.clone()
    WritesLabels().detect(attacked.view(0, WritesLabels.sees))
    assert before.any()
    assert torch.equal(attacked.suspect.labels, before)


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
        (Uncalibrated, "raised NotImplementedError: Uncalibrated has no calibrate(view)"),
        (NanThreshold, "calibrate set a threshold that is NaN"),
        (Scribbles, "screen changed its input in place"),
        (OneForAll, "screen's scores are [1], expected [32]"),
        (DropsAClass, "repair's network returns [2, 9], expected [2, 10]"),
        (ReturnsNothing, "repair returned NoneType"),
        (SeesDouble, "sees 'future', 'trigger'; known: model, clean, suspect, pretrained"),
        (SeesItsResult, "sees 'model', but is a Training"),
        (Peeks, "asked for view.suspect, which it does not see: sees = model, clean"),
        (PeeksInVain, "asked for view.suspect, which it does not see: sees = model, clean"),
        (PeeksBefore, "asked for view.suspect, which it does not see: sees = model, clean"),
        (PeeksAtInputs, "asked for view.model, which it does not see: sees = clean"),
        (TrainsNothing, "train returned list"),
        (Unproven, "train returned SimpleCNN without certify(images)"),
        *CERTIFIES,
        (
            NoKind,
            "is none of SampleDetector, ModelDetector, InputDetector, Repair, Certified, Training",
        ),
    ],
)
def test_a_broken_defense_is_named_with_the_reason(plugin, reason):
    with pytest.raises(PluginError) as error:
        check_defense(plugin)
    assert str(error.value).startswith(f"defense '{plugin.__name__}': {reason}")
    assert "\n" not in str(error.value)
