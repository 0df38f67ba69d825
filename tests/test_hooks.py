"""What each hook of an attack does reaches the victim, the defender, the referee and the store."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks import ATTACKS, CLEAN, COVER, POISON, Attack, Plan, attack
from bench import Cell, run
from bench.checks import check_attack
from bench.runtime.workspace import Workspace
from bench.victims import store
from bench.victims.provide import victim
from bench.victims.train import build
from fixtures.errors import BenchError, PluginError
from fixtures.images import to_bytes
from fixtures.training import predict

QUICK = {"epochs": 1, "min_steps": 10}
HOOKED = (
    *("by_source", "discriminator", "invented", "retrained"),
    *("staged", "surrogate", "two_squares", "weights"),
)


pytestmark = pytest.mark.usefixtures("hooks")


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    return Workspace(cache=tmp_path_factory.mktemp("hooks"), device="cpu")


def cell(name, **params):
    return Cell("tiny", attack=name, attack_params=params)


def again(what, at):
    """The same victim out of the store."""
    at.forget()
    found = victim(what, at)
    assert not found.trained
    return found


@pytest.mark.parametrize("name", HOOKED)
def test_an_attack_with_hooks_conforms(name):
    check_attack(name)


@pytest.mark.parametrize("name", HOOKED)
def test_a_victim_is_the_same_out_of_the_store(name, at):
    first = victim(cell(name), at)
    second = again(cell(name), at)
    test = first.dataset.test
    assert torch.equal(first.roles, second.roles)
    assert torch.equal(first.suspect.labels, second.suspect.labels)
    assert torch.equal(first.suspect.images, second.suspect.images)
    assert torch.equal(predict(first.model, test), predict(second.model, test))
    for which in range(first.attack.triggers):
        assert torch.equal(first.triggered(which).images, second.triggered(which).images)


BY_SOURCE = {"poison_rate": 0.5}


def test_covers_reach_the_defender_stamped_and_rightly_labelled(at):
    attacked = victim(cell("by_source", **BY_SOURCE), at)
    true, suspect = attacked.dataset.train.labels, attacked.suspect
    poison, covers = attacked.roles == POISON, attacked.roles == COVER
    source, target = attacked.attack.source, attacked.attack.target
    assert (true[poison] == source).all()
    assert (suspect.labels[poison] == target).all()
    assert set(true[covers].tolist()) == set(range(4)) - {source, target}
    assert torch.equal(suspect.labels[covers], true[covers])
    changed = (suspect.images != attacked.dataset.train.images).flatten(1).any(1)
    assert torch.equal(changed, attacked.roles != CLEAN)
    stamped = to_bytes(attacked.attack(attacked.dataset.train.images[covers]))
    assert torch.equal(suspect.bytes(covers.nonzero().flatten()), stamped)


def test_a_source_specific_backdoor_is_measured_on_its_source_and_its_leak_on_the_others(at):
    record = run(cell("by_source", **BY_SOURCE), at)
    assert record.metrics["asr"] > 0.8
    assert record.metrics["leak"] < 0.2
    attacked = victim(cell("by_source", **BY_SOURCE), at)
    labels = attacked.dataset.test.labels
    called = predict(attacked.model, attacked.triggered()).argmax(1) == attacked.attack.target
    source, target = attacked.attack.source, attacked.attack.target
    others = (labels != source) & (labels != target)
    assert record.metrics["asr"] == float(called[labels == source].double().mean())
    assert record.metrics["leak"] == float(called[others].double().mean())
    assert record.poison["covers"] == int((attacked.roles == COVER).sum()) > 0


def test_every_trigger_has_its_own_target_and_its_own_asr(at):
    record, attacked = run(cell("two_squares"), at), victim(cell("two_squares"), at)
    poison, target = attacked.roles == POISON, attacked.attack.target
    aimed = attacked.suspect.labels[poison]
    assert set(aimed.tolist()) == {target, (target + 1) % 4}
    assert len(record.details["asr_by_trigger"]) == 2
    assert record.metrics["asr_worst"] == min(record.details["asr_by_trigger"]) > 0.8
    one, other = (attacked.triggered(which).images for which in (0, 1))
    assert not torch.equal(one, other)


def tensors(at, what):
    """What is stored of a victim: name -> tensor."""
    (path,) = [victim(what, at).path]
    return store.load_tensors(path.read_bytes())


def test_what_a_surrogate_taught_is_stored_and_the_surrogate_is_not(at):
    attacked = victim(cell("surrogate"), at)
    stored = tensors(at, cell("surrogate"))
    assert [name for name in stored if name.startswith("attack.")] == ["attack.pattern"]
    assert stored["attack.pattern"].any()
    assert torch.equal(again(cell("surrogate"), at).attack.pattern, attacked.attack.pattern)
    assert run(cell("surrogate"), at).metrics["asr"] > 0.8


def test_a_discriminator_learns_beside_the_model_by_its_own_optimizer(at):
    attacked = victim(cell("discriminator"), at)
    _, untrained = build(cell("discriminator"), attacked.dataset)
    assert not torch.equal(attacked.attack.critic.weight, untrained.critic.weight)
    assert not attacked.attack.learned
    assert run(cell("discriminator"), at).metrics["asr"] > 0.8


def test_the_penalty_changes_what_the_model_learns(at):
    with_it, without = (victim(cell("discriminator", strength=s), at) for s in (0.1, 0.0))
    assert not torch.equal(with_it.model.head.weight, without.model.head.weight)


def test_no_hook_of_the_attacker_is_left_in_the_network_that_is_handed_over(tmp_path):
    attacked = victim(cell("discriminator"), Workspace(cache=tmp_path, device="cpu"))
    assert attacked.trained
    hooked = [m for m in attacked.model.modules() if len(m._forward_pre_hooks)]
    assert not hooked


def test_stages_change_before_their_epoch(tmp_path):
    attacked = victim(cell("staged"), Workspace(cache=tmp_path, device="cpu"))
    stages = attacked.attack.stages
    half = (len(stages) + 1) // 2
    assert stages == [False] * half + [True] * (len(stages) - half)
    assert len(stages) > 2
    assert (attacked.roles == POISON).any()


def test_what_is_made_up_in_the_loop_counts_by_the_role_that_comes_back(at):
    attacked = victim(cell("invented"), at)
    index = torch.arange(len(attacked.roles))
    assert torch.equal(attacked.roles == POISON, index % 5 == 0)
    assert torch.equal(attacked.roles == COVER, index % 5 == 1)
    true, suspect = attacked.dataset.train, attacked.suspect
    covers = attacked.roles == COVER
    assert torch.equal(suspect.labels[covers], true.labels[covers])
    assert torch.equal(suspect.images[covers], true.images[covers].flip(3))
    assert (suspect.labels[attacked.roles == POISON] == attacked.attack.target).all()


def test_an_attack_on_the_weights_poisons_nothing_and_makes_a_backdoor(at):
    record, attacked = run(cell("weights"), at), victim(cell("weights"), at)
    assert not attacked.roles.any()
    assert torch.equal(attacked.suspect.images, attacked.dataset.train.images)
    assert attacked.attack.backdoors
    assert record.metrics["asr"] > 0.8
    assert record.metrics["asr_clean_model"] < 0.1


def test_the_weights_as_they_were_tampered_with_are_those_that_are_stored(at):
    attacked = victim(cell("retrained"), at)
    stored = tensors(at, cell("retrained"))
    assert not stored["model.head.bias"].any()
    assert torch.equal(stored["model.head.weight"], attacked.model.head.weight)
    assert run(cell("retrained"), at).metrics["asr"] > 0.8


COVERING = ("wanet", "input_aware")


@pytest.mark.parametrize("name", COVERING)
def test_images_that_kept_their_label_in_the_loop_reach_the_defender_as_covers(name, at):
    attacked = victim(Cell("tiny", attack=name), at)
    true, suspect = attacked.dataset.train, attacked.suspect
    covers = attacked.roles == COVER
    assert covers.sum() > 20
    assert torch.equal(suspect.labels[covers], true.labels[covers])
    touched = (suspect.images != true.images).flatten(1).any(1)
    assert not touched[attacked.roles == CLEAN].any()
    assert touched[covers].float().mean() > 0.9


@pytest.mark.parametrize("name", COVERING)
def test_the_accuracy_on_images_stamped_as_covers_is_measured(name, at):
    record = run(Cell("tiny", attack=name), at)
    assert 0 < record.metrics["cover_accuracy"] <= 1


class Square(Attack):
    def forward(self, images):
        stamped = images.clone()
        stamped[..., -3:, -3:] = 1.0
        return stamped


class WrongRoles(Square):
    def choose(self, labels, generator):
        plan = super().choose(labels, generator)
        return Plan(plan.roles.long(), plan.labels)


class WrongShape(Square):
    def stamp(self, images, labels, roles, index, generator):
        return images[..., 1:]


class ReturnsTwo(Square):
    def on_batch(self, images, labels, roles, index, net, generator):
        return images, labels


class InSecret(Square):
    def on_batch(self, images, labels, roles, index, net, generator):
        return self(images), labels, roles


class AsksTooMuch(Square):
    def prepare(self, access):
        access.fit(access.fresh(), access.aux, epochs=access.recipe.epochs)


class Grows(Square):
    def prepare(self, access):
        self.surrogate = access.fresh()


class OtherNetwork(Square):
    def tamper(self, net, access):
        return nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("plugin", "needs", "reason"),
    [
        (WrongRoles, "data", "choose's roles are torch.int64 [520], expected torch.int8 [520]"),
        (WrongShape, "data", "stamp returned torch.float32 [52, 1, 12, 11], expected"),
        (ReturnsTwo, "training", "on_batch must return three tensors: images, labels, roles"),
        (InSecret, "training", "on_batch changed "),
        (AsksTooMuch, "data", "raised AttributeError: 'NoneType' object has no attribute 'epochs'"),
        (Grows, "data", "prepare changed the shape of its state (surrogate."),
        (OtherNetwork, "model", "tamper returned a network of another architecture"),
        (ReturnsTwo, "data", 'has on_batch, which needs = "training"; it declares needs = "data"'),
        (OtherNetwork, "data", 'has tamper, which needs = "training" or "model"; it declares'),
    ],
)
def test_a_plugin_that_breaks_a_hook_is_one_line_and_nothing_is_stored(
    plugin, needs, reason, tmp_path
):
    quick = Cell("tiny", attack="broken", recipe="adamw", recipe_params=QUICK)
    with ATTACKS.temporary():
        attack("broken", level=1, needs=needs)(plugin)
        with pytest.raises((PluginError, BenchError)) as error:
            victim(quick, Workspace(cache=tmp_path, device="cpu"))
    assert "attack 'broken': " + reason in str(error.value)
    assert "\n" not in str(error.value)
    left = [path.suffix for path in (tmp_path / "victims").glob("*")]
    assert set(left) <= {".lock"}
