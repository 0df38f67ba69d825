"""What each repair and detector does, shown on examples small enough to see through."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench import Cell
from bench.victims.provide import victim
from defenses import DEFENSES, SampleVerdict
from defenses.anp import Neural, ones_like
from defenses.anp import prunable as of_anp
from defenses.fine_pruning import prunable
from defenses.ibau import hypergradient
from defenses.nad import attention
from defenses.neural_cleanse import accused, anomaly_index
from defenses.trigger_search import (
    REMEMBERED,
    STAMPED_PIXELS,
    Convergence,
    Search,
    Triggers,
    recover,
)
from defenses.view import images_a_step
from fixtures.anatomy import anatomy, watched
from fixtures.images import ImageSet
from fixtures.models import build_for
from fixtures.training import predict

SEEN = frozenset({"model", "clean", "suspect"})


@pytest.fixture(scope="module")
def attacked(workspace):
    return victim(Cell("digits", attack="pixel"), workspace)


@pytest.fixture
def view(attacked):
    return attacked.view(0, SEEN)


class ShortCut(nn.Module):
    """Knows brightness only: class 1 where the last column is white, else class 0, never 2."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.0], [20.0], [0.0]]))
            self.head.bias.copy_(torch.tensor([0.0, -10.0, -60.0]))

    def forward(self, images):
        return self.head(images[..., -1].mean((1, 2))[:, None])


@pytest.fixture
def short_cut_view(view_of):
    images = torch.rand(64, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.3
    return view_of(ShortCut(), ImageSet(images, torch.zeros(64).long()), classes=3)


def of_norms(norms):
    """Triggers whose masks have these norms; none where the norm is zero."""
    masks = torch.tensor(norms)[:, None, None, None].expand(-1, 1, 20, 20) / 400
    return Triggers(masks, masks, torch.ones(len(norms)), torch.ones(len(norms)))


def test_neural_cleanse_finds_the_short_cut_and_nothing_where_there_is_none(short_cut_view):
    found = recover(short_cut_view, Search(steps=300, batch=16))
    assert found.flips[1] >= 0.99
    mask = found.masks[1, 0]
    assert mask[:, -1].mean() > 5 * mask[:, :-1].mean()
    # Nothing flips the model to class 2, so no small mask may pass for one that does.
    assert not found.masks[2].any()
    assert found.norms[2] == 36


def test_neural_cleanse_leaves_the_models_weights_as_they_were(view, attacked):
    recover(view, Search(steps=3))
    for mine, theirs in zip(view.model.parameters(), attacked.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.requires_grad


def seen_by(net):
    """How many images each forward pass of a network takes, from now on."""
    sizes = []
    net.register_forward_pre_hook(lambda _net, inputs: sizes.append(len(inputs[0])))
    return sizes


def test_the_same_search_is_made_once(attacked):
    REMEMBERED.clear()
    one, other = attacked.view(0, SEEN), attacked.view(0, SEEN)
    search = Search(steps=20)
    made, remembered = seen_by(one.model), seen_by(other.model)
    found, again = recover(one, search), recover(other, search)
    assert len(made) > 20 > 3 > len(remembered)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert torch.equal(one.generator.get_state(), other.generator.get_state())
    again.masks.fill_(7.0)  # whoever receives triggers may change them
    assert torch.equal(recover(attacked.view(0, SEEN), search).masks, found.masks)


def test_unlearning_is_the_same_whether_its_search_was_made_or_remembered(attacked):
    def unlearned():
        settings = {"steps": 20, "threshold": -100.0, "min_steps": 5, "epochs": 1}
        return DEFENSES.create("neural_cleanse_unlearning", **settings).repair(
            attacked.view(0, SEEN)
        )

    REMEMBERED.clear()
    made, remembered = unlearned().state_dict(), unlearned().state_dict()
    assert all(torch.equal(made[name], remembered[name]) for name in made)
    assert not torch.equal(made["head.weight"], attacked.model.head.weight)


def other_weight(view, _view_of):
    with torch.no_grad():
        view.model.conv2.weight[3, 2, 1, 0] += 1e-3
    return view


def other_image(view, view_of):
    """One grey level of one pixel of one image, and nothing else."""
    pixels = view.clean.bytes(torch.arange(len(view.clean)))
    pixels[3, 0, 14, 14] ^= 1
    changed = ImageSet(pixels, view.clean.labels)
    return view_of(view.model, changed, classes=view.num_classes)


def other_draws(view, _view_of):
    view.generator.manual_seed(9)
    return view


def other_forward(view, _view_of):
    """A network's code is no weight: that it does something else is seen by what it puts out."""
    view.model.head.register_forward_hook(lambda _layer, _inputs, logits: logits * 2)
    return view


@pytest.mark.parametrize("change", [other_weight, other_image, other_draws, other_forward])
def test_what_is_changed_is_searched_again(change, attacked, view_of):
    recover(attacked.view(0, SEEN), Search(steps=10))
    view = change(attacked.view(0, SEEN), view_of)
    sizes = seen_by(view.model)
    recover(view, Search(steps=10))
    assert len(sizes) > 10


def test_what_is_not_changed_is_remembered_from_another_view_of_the_same_images(attacked, view_of):
    recover(attacked.view(0, SEEN), Search(steps=10))
    view = attacked.view(0, SEEN)
    copied = ImageSet(view.clean.bytes(torch.arange(len(view.clean))), view.clean.labels)
    again = view_of(view.model, copied, classes=view.num_classes)
    sizes = seen_by(again.model)
    recover(again, Search(steps=10))
    assert len(sizes) < 3


def test_other_settings_are_another_search(attacked):
    recover(attacked.view(0, SEEN), Search(steps=10))
    view = attacked.view(0, SEEN)
    sizes = seen_by(view.model)
    recover(view, Search(steps=10, lr=0.2))
    assert len(sizes) > 10


def test_a_class_that_has_converged_leaves_the_batch(short_cut_view):
    REMEMBERED.clear()
    sizes = seen_by(short_cut_view.model)
    search = Search(steps=300)
    found = recover(short_cut_view, search)
    images = search.images(64)
    assert found.steps[1] < 300 == found.steps[2]  # class 2 is never reached
    steps = [size for size in sizes if size in {images, 2 * images, 3 * images}][:300]
    assert steps[0] == 3 * images
    assert steps[-1] < 3 * images


def test_a_mask_has_converged_after_its_price_rose_and_fell_and_nothing_was_gained():
    def after(works, norms):
        """Of one class, whether it has converged after each judgement."""
        convergence = Convergence(1, 2, 0.01, torch.device("cpu"))
        pairs = zip(works, norms, strict=True)
        return [bool(convergence.reached(torch.tensor([w]), torch.tensor([n]))) for w, n in pairs]

    assert after([True, False, True, True], [9.0, 9.0, 9.0, 9.0]) == [False, False, True, True]
    assert after([True, False, True, True], [9.0, 9.0, 8.0, 8.0]) == [False] * 4  # it was gained
    too_little = after([True, False, True, True], [9.0, 9.0, 8.95, 8.95])
    assert too_little == [False, False, True, True]
    assert after([True] * 5, [9.0] * 5) == [False] * 5  # the price never fell
    assert after([False] * 5, [torch.inf] * 5) == [False] * 5  # nor rose


def test_a_search_takes_no_more_images_a_step_than_a_window_needs_to_see_all():
    assert [Search().images(given) for given in (3, 72, 319, 320, 3000)] == [1, 8, 32, 32, 32]


def test_a_mask_is_given_up_only_after_all_clean_images_were_seen():
    assert [Search().windows(given) for given in (3, 72, 320, 3000)] == [5, 5, 5, 10]


@pytest.mark.parametrize(("name", "most"), [("anp", 128), ("ibau", 100)])
def test_a_batch_is_a_tenth_of_what_is_given_and_never_more_than_all(name, most):
    assert DEFENSES.create(name).batch == most
    taken = [images_a_step(given, most) for given in (5, 16, 72, 500, 3000)]
    assert taken == [5, 16, 16, 50, most]


@pytest.mark.parametrize("name", ["anp", "ibau"])
def test_a_repair_takes_no_more_images_at_once_than_it_has(name, view, view_of, quick):
    small = view_of(view.model, view.clean.take(torch.arange(12)), classes=view.num_classes)
    sizes = seen_by(small.model)
    DEFENSES.create(name, **quick(name)).repair(small)
    assert 0 < max(sizes) <= 12


def test_what_was_done_is_reported(attacked, quick):
    def report(name):
        defense = DEFENSES.create(name, **quick(name))
        act = defense.inspect if name == "neural_cleanse" else defense.repair
        act(attacked.view(0, SEEN))
        return defense.report

    assert report("neural_cleanse")["steps"] == [10] * 10
    assert report("neural_cleanse_unlearning")["steps"] == [10] * 10
    assert (report("anp")["steps"], report("anp")["images_a_step"]) == (4, 16)
    assert report("ibau")["images_a_batch"] == 16


def test_the_anomaly_index_accuses_small_norms_only():
    found = of_norms([50.0, 52.0, 48.0, 51.0, 49.0, 5.0, 150.0])
    assert accused(anomaly_index(found), 2.0) == (5,)


def test_equal_norms_are_no_anomaly():
    assert accused(anomaly_index(of_norms([40.0] * 10)), 2.0) == ()


def test_where_half_of_the_classes_have_no_mask_nobody_is_accused():
    assert accused(anomaly_index(of_norms([0.0] * 5 + [300.0] * 4 + [5.0])), 2.0) == ()
    assert accused(
        anomaly_index(of_norms([0.0] * 4 + [300.0, 310.0, 290.0, 305.0, 295.0, 5.0])), 2.0
    )


def test_what_neural_cleanse_calls_clean_is_returned_as_it_came(view, attacked):
    repair = DEFENSES.create("neural_cleanse_unlearning", threshold=1e12, steps=3)
    net = repair.repair(view)
    assert torch.equal(net.head.weight, attacked.model.head.weight)
    assert repair.report["suspects"] == []


def test_strip_calls_an_input_suspicious_that_shouts_down_what_is_added(view_of):
    """Class 1 on a white last column whatever else there is; noise decides everywhere else."""

    class Decided(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images):
            sure = (images[..., -1].amin((1, 2)) > 0.9).float() * 50
            unsure = images[..., 0].mean((1, 2)) * self.scale
            return torch.stack([unsure, sure, -unsure], dim=1)

    images = torch.rand(200, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.3
    data = ImageSet(images, torch.zeros(200).long())
    stamped = images[:50].clone()
    stamped[..., -1] = 1.0
    strip = DEFENSES.create("strip")
    strip.calibrate(view_of(Decided(), data, classes=3))
    scores = strip.screen(torch.cat([images[50:100], stamped]))
    assert (scores[50:] > strip.threshold).all()
    assert (scores[:50] > strip.threshold).float().mean() < 0.2


def test_filtering_removes_what_its_detector_flags_and_starts_from_new_weights(view, attacked):
    repair = DEFENSES.create("filter_and_retrain")
    net = repair.repair(view)
    flagged = int(repair.detector.report and repair.report["removed"])
    assert flagged > 0
    assert flagged + repair.report["kept"] == len(attacked.suspect)
    assert not torch.equal(net.conv1.weight, attacked.model.conv1.weight)
    right = predict(net, attacked.dataset.test).argmax(1) == attacked.dataset.test.labels
    assert right.float().mean() > 0.95


def test_where_nothing_is_flagged_the_model_is_returned_as_it_came(view, attacked):
    repair = DEFENSES.create("filter_and_retrain")
    none = torch.zeros(len(view.suspect))
    repair.detector.detect = lambda _view: SampleVerdict(none, none.bool())
    net = repair.repair(view)
    assert torch.equal(net.head.weight, attacked.model.head.weight)
    assert repair.report == {"removed": 0, "kept": len(view.suspect)}


def test_retraining_needs_a_detector_of_samples():
    with pytest.raises(ValueError, match="'strip' is no SampleDetector"):
        DEFENSES.create("filter_and_retrain", detector="strip")


def test_a_detector_that_flags_everything_leaves_nothing_to_train_on(view):
    repair = DEFENSES.create("filter_and_retrain")
    all_of_them = torch.ones(len(view.suspect))
    repair.detector.detect = lambda _view: SampleVerdict(all_of_them, all_of_them.bool())
    with pytest.raises(ValueError, match="the detector flagged every sample"):
        repair.repair(view)


SHAPES = {"simplecnn": [784, 196], "preact_resnet18": [784, 196, 49, 16], "vit": [16, 16, 16]}
"""Of each model, the places of the attention map of each of its stages, on images of 28x28."""


@pytest.mark.parametrize("name", SHAPES)
def test_attention_maps_are_one_per_stage_and_of_unit_length(name):
    net = build_for(name, (1, 28, 28), 10, **({"width": 8} if name == "preact_resnet18" else {}))
    places = anatomy(net, torch.rand(2, 1, 28, 28)).stages
    with watched(places) as seen, torch.no_grad():
        net.eval()(torch.rand(4, 1, 28, 28))
    maps = [attention(seen[place.name], place) for place in places]
    assert [tuple(m.shape) for m in maps] == [(4, size) for size in SHAPES[name]]
    assert all(torch.allclose(m.norm(dim=1), torch.ones(4), atol=1e-3) for m in maps)


def test_fine_pruning_prunes_the_last_maps_or_what_lies_between_a_transformers_last_layers():
    def layer(name, shape=(3, 32, 32), **params):
        units = prunable(anatomy(build_for(name, shape, 10, **params), torch.rand(2, *shape)))
        return units.name

    assert layer("simplecnn") == "conv2"
    assert layer("preact_resnet18", width=8) == "norm"
    assert layer("vit") == "layers.3.up"
    assert layer("timm:resnet18") == "net.layer4.1.conv2"
    assert layer("timm:convnext_atto") == "net.stages.3.blocks.1.mlp.fc2"  # a convolution


class Behind(nn.Module):
    """A convolution behind a batch norm that shifts all that it puts out."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)
        nn.init.constant_(self.norm.bias, 0.5)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


def test_a_pruned_unit_puts_out_zero_behind_its_norm_and_stays_so_while_the_rest_is_tuned(view_of):
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = ImageSet(images, torch.arange(60) % 10)
    repair = DEFENSES.create("fine_pruning", tolerance=1.0, epochs=1, min_steps=5)
    net = repair.repair(view_of(Behind(), data))
    pruned = repair.report["pruned"]
    assert 0 < pruned < 8
    with torch.no_grad():
        put_out = net.eval().norm(net.conv(images)).movedim(1, 0).flatten(1)
    assert int((put_out == 0).all(1).sum()) == pruned
    assert not torch.equal(net.head.weight, Behind().head.weight)
    steps = dict(repair.trajectory())
    assert list(steps) == list(range(9))
    assert not steps[8].norm.weight.any()
    assert steps[0].norm.weight.all()


@pytest.mark.parametrize(("shape", "norm"), [("simplecnn", False), ("preact_resnet18", True)])
def test_anps_scaling_leaves_a_network_as_it_is_and_a_pruned_neuron_constant(shape, norm):
    images = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    net = build_for(shape, (1, 28, 28), 10, **({"width": 8} if norm else {}))
    for module in net.modules():  # as if trained: no scale is one, no shift is zero
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
    found = anatomy(net, images[:2])
    data = ImageSet(images, torch.zeros(20).long())
    network = Neural(net.eval(), of_anp(found), data)
    assert all(units.normalised == norm for units in network.units)
    alive = ones_like(network.centres)
    same = network.perturbed(alive, ones_like(alive))
    assert all(torch.allclose(net.get_parameter(n), p, atol=1e-5) for n, p in same.items())
    alive[-1][3] = 0
    net.load_state_dict({**net.state_dict(), **network.perturbed(alive, ones_like(alive))})
    last = network.units[-1]
    seen = []
    last.output.register_forward_hook(lambda _m, _i, out: seen.append(out.movedim(last.axis, 0)))
    with torch.no_grad():
        net(images)
    assert torch.allclose(seen[0][3], network.centres[-1][3], atol=1e-5)
    assert not torch.allclose(seen[0][2], network.centres[-1][2], atol=1e-2)


def test_anp_prunes_every_batch_norm_of_a_network_that_has_some():
    net = build_for("preact_resnet18", (3, 32, 32), 10, width=8)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    found = of_anp(anatomy(net, torch.rand(2, 3, 32, 32)))
    assert {id(units.output) for units in found} == {id(norm) for norm in norms}


def test_anp_prunes_no_further_than_its_held_out_accuracy_allows(view):
    repair = DEFENSES.create("anp", steps=40, batch=64)
    repair.repair(view)
    curve = repair.report["curve"]
    kept = [point for point in curve if point["clean_accuracy"] >= 1.0 - repair.tolerance - 0.02]
    assert repair.report["pruned"] in {0, *(point["pruned"] for point in kept)}
    assert [point["pruned"] for point in curve] == list(range(2, 224, 2))[: len(curve)]


def test_anp_that_may_lose_nothing_prunes_nothing_and_that_may_lose_all_prunes(attacked):
    def repaired(tolerance):
        repair = DEFENSES.create("anp", steps=5, batch=16, lr=5.0, tolerance=tolerance)
        return repair.repair(attacked.view(0, SEEN)), repair.report["pruned"]

    untouched, none = repaired(-1.0)
    _, some = repaired(1.0)
    assert none == 0 < some
    assert torch.equal(untouched.conv2.weight, attacked.model.conv2.weight)


def test_ibaus_perturbation_stays_in_its_ball_and_raises_the_loss(view):
    repair = DEFENSES.create("ibau", radius=2.0, batch=64)
    delta, _ = repair.worst(view)
    assert float(delta.norm()) <= 2.0 + 1e-4
    images, labels = view.clean.images, view.clean.labels
    calm, hurt = (
        float(nn.functional.cross_entropy(predict(view.model, some), labels))
        for some in (images, images + delta)
    )
    assert hurt > 3 * calm


@pytest.mark.parametrize("worst", [3.0, 1.0, 2.0])
def test_ibaus_hypergradient_is_that_of_a_function_which_can_be_solved_by_hand(worst):
    """One weight w = 3 and the loss H = w * d - d^2 / 2: the worst d is w, and moves as w does.

    dH/dw + dH/dd * dd/dw is d + (w - d), wherever the perturbation stands; without the implicit
    term it would be d.
    """
    w = nn.Parameter(torch.tensor(3.0))

    def loss(delta):
        return w * delta.sum() - delta.sum() ** 2 / 2

    (slope,) = hypergradient(
        loss,
        lambda delta: -loss(delta),
        torch.full((1, 1, 1, 1), worst),
        [w],
        pace=0.5,
        iterations=30,
    )
    assert float(slope) == pytest.approx(3.0, abs=1e-4)


@pytest.mark.parametrize("name", ["vit", "timm:vit_tiny_patch16_224", "preact_resnet18"])
def test_ibau_differentiates_twice_through_attention_and_batch_norm(name, view_of):
    images = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net = build_for(name, (3, 32, 32), 10, **({"width": 8} if name == "preact_resnet18" else {}))
    view = view_of(net, ImageSet(images, torch.arange(40) % 10))
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    DEFENSES.create("ibau", rounds=1, min_steps=2, fixed_point=2).repair(view)
    changed = [n for n, p in net.named_parameters() if not torch.equal(before[n], p)]
    assert len(changed) > 0.8 * len(before)
    assert all(p.isfinite().all() for p in net.parameters())


def test_neural_cleanse_takes_classes_in_turn_where_they_are_many(view_of):
    """200 classes of 64x64: no forward pass is of more than `STAMPED_PIXELS`."""
    images = torch.rand(400, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    net = build_for("vit", (3, 64, 64), 200, patch=32, depth=1)
    view = view_of(net, ImageSet(images, torch.arange(400) % 200), classes=200)
    sizes = []
    net.register_forward_pre_hook(
        lambda _net, inputs: sizes.append(len(inputs[0])) if torch.is_grad_enabled() else None
    )
    recover(view, Search(steps=1))
    assert sum(sizes) == 200 * 32
    assert max(sizes) * 64 * 64 <= STAMPED_PIXELS
    found = recover(view, Search(steps=2, classes=5))
    assert int((found.steps > 0).sum()) == 5


def test_a_class_that_was_not_searched_is_not_compared_with():
    found = of_norms([50.0, 52.0, 48.0, 51.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert accused(anomaly_index(found), 2.0) == ()  # half have no mask
    searched = found._replace(steps=torch.tensor([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]))
    assert accused(anomaly_index(searched), 2.0) == (4,)
    assert not anomaly_index(searched)[5:].any()
