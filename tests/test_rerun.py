"""The part of a network behind a layer, run alone, says what the whole network says."""

import pytest
import torch
from torch import nn

from bench import Cell
from bench.victims.provide import victim
from fixtures.rerun import Rerun
from fixtures.training import predict


class Skips(nn.Module):
    """What goes around the last convolution is read behind it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        x = self.first(images)
        return self.head((x + self.body(x)).mean((2, 3)))


class Branches(Skips):
    """torch.fx cannot follow a condition on values."""

    def forward(self, images):
        return super().forward(images if images.sum() > 0 else -images)


class Twice(Skips):
    def forward(self, images):
        x = self.first(images)
        return self.head(self.body(self.body(x)).mean((2, 3)))


class InPlace(Skips):
    """What is kept must survive what is done behind the cut."""

    def forward(self, images):
        x = self.first(images)
        y = self.body(x)
        x += y
        return self.head(torch.relu_(x).mean((2, 3)))


class Defaults(Skips):
    """torch.fx takes the default for something that is there."""

    def forward(self, images, mask=None):
        return super().forward(images if mask is None else images * mask)


class Types(Skips):
    """A symbol is no tensor, so torch.fx follows the other branch."""

    def forward(self, images):
        return super().forward(images if isinstance(images, torch.Tensor) else 2 * images)


def without_half(output):
    changed = output.clone()
    changed[:, ::2] = 0
    return changed


CUT = {Skips: True, InPlace: True, Branches: False, Twice: False, Defaults: False, Types: False}


@pytest.mark.parametrize(("build", "cut"), CUT.items(), ids=lambda value: str(value))
def test_it_says_what_the_whole_network_says(build, cut):
    torch.manual_seed(0)
    net, images = build(), torch.rand(300, 1, 9, 9)
    again = Rerun(net, "body.1", images)
    assert (again.cut is not None) == cut
    assert torch.equal(again.logits(lambda output: output), predict(net, images))
    changed = again.logits(without_half)
    assert not torch.equal(changed, predict(net, images))
    assert torch.equal(again.logits(lambda output: output), predict(net, images))
    if build is not Twice:
        with torch.no_grad():
            net.body[1].weight[::2] = 0
            net.body[1].bias[::2] = 0
        assert torch.equal(changed, predict(net, images))


def test_it_computes_what_comes_before_the_layer_once(workspace):
    attacked = victim(Cell("tiny", attack="pixel"), workspace)
    passes = {"conv2": 0, "hidden": 0}
    for name in passes:
        attacked.model.get_submodule(name).register_forward_hook(
            lambda *_, name=name: passes.update({name: passes[name] + 1})
        )
    again = Rerun(attacked.model, "conv2", attacked.dataset.clean.images)
    for _ in range(5):
        again.logits(lambda output: output)
    assert passes == {
        "conv2": 2,
        "hidden": 7,
    }  # checking the cut takes a full pass and one behind it
