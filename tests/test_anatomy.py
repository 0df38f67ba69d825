"""What is derived of networks that know nothing of this project, and of our own."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torchvision
from torch import nn

from fixtures.anatomy import anatomy, masked, watched
from fixtures.models import build_for

STRANGERS = {
    "resnet18": ("fc", 20, ["bn1", "layer1", "layer2", "layer3", "layer4"]),
    "mobilenet_v3_small": (
        "classifier.3", 53,
        ["features.0", "features.1", "features.3", "features.8", "features"],
    ),
    "convnext_tiny": (
        "classifier.2", 58, ["features.2.0", "features.4.0", "features.6.0", "classifier.0"],
    ),
    "swin_t": ("head", 28, ["features.1", "features.3", "features.5", "norm"]),
    "vit_b_16": (
        "heads.head", 25,
        [f"encoder.layers.encoder_layer_{number}" for number in (3, 7, 11)],
    ),
    "densenet121": (
        "classifier", 120 + 62,
        ["features.norm0", *(f"features.denseblock{n}" for n in (1, 2, 3)), "features"],
    ),
    "vgg11_bn": (
        "classifier.6", 10,
        ["features.1", "features.5", "features.12", "features.19", "features.26", "features"],
    ),
}  # fmt: skip
"""Network of torchvision -> the layer that features enter, its units, its stages.

Of densenet121 62 batch norms stand alone, behind what several layers put out."""

GIVEN = [(3, 10), (1, 43), (3, 200)]


def stranger(name, channels, num_classes):
    size = {"image_size": 32} if name == "vit_b_16" else {}
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None, num_classes=num_classes, **size)
    if channels != 3:
        first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
        shape = (channels, first.out_channels, first.kernel_size, first.stride, first.padding)
        for module in net.modules():
            for child, found in module.named_children():
                if found is first:
                    setattr(module, child, nn.Conv2d(*shape, bias=first.bias is not None))
    return net


def images(channels=3, side=32, width=None):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, channels, side, width or side, generator=generator)


@pytest.mark.parametrize(("channels", "num_classes"), GIVEN)
@pytest.mark.parametrize("name", STRANGERS)
def test_of_a_stranger_everything_is_derived(name, channels, num_classes):
    net = stranger(name, channels, num_classes)
    found = anatomy(net, images(channels))
    enters, layers, stages = STRANGERS[name]
    assert found.lacks == {}
    assert found.features is not None
    assert found.features.name == enters
    assert len(found.units) == layers
    assert [place.name for place in found.stages] == stages
    with torch.no_grad(), watched([found.features, *found.stages]) as seen:
        logits = net.eval()(images(channels))
        head = found.features.module
        assert torch.equal(head(seen[found.features.name]), logits)
    assert seen[found.features.name].ndim == 2
    forms = {place.form for place in found.stages}
    assert forms == ({"tokens"} if name == "vit_b_16" else {"maps"})
    if forms == {"maps"}:
        sides = [seen[place.name].shape[2:] for place in found.stages]
        assert all(height == width for height, width in sides)
        assert sides == sorted(set(sides), reverse=True)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_silenced_unit_puts_out_zero_behind_its_normalisation_and_the_others_do_not(name):
    net = stranger(name, 3, 10).eval()
    with torch.no_grad():
        for norm in net.modules():  # a shift that a zero before the normalisation would not stop
            if isinstance(norm, nn.BatchNorm2d | nn.LayerNorm) and norm.bias is not None:
                norm.bias.fill_(0.3)
    for units in anatomy(net, images()).units:
        seen = []
        alive = torch.ones(len(units))
        alive[0] = 0
        with torch.no_grad(), masked([(units, alive)]):
            hook = units.output.register_forward_hook(
                lambda _m, _i, out, s=seen: s.append(out.clone())
            )
            net(images())
            hook.remove()
        each = seen[0].movedim(units.axis, 0).flatten(1)
        assert len(each) == len(units.weight)
        assert not each[0].any()
        assert each[1:].any(1).float().mean() > 0.9


def test_a_layer_has_the_scale_and_the_shift_of_the_normalisation_behind_it():
    net = stranger("resnet18", 3, 10)
    found = {units.name: units for units in anatomy(net, images()).units}
    assert found["layer1.0.conv2"].output is net.layer1[0].bn2
    assert found["layer1.0.conv2"].scale is net.layer1[0].bn2.weight
    assert found["layer1.0.conv2"].shift is net.layer1[0].bn2.bias
    assert found["layer2.0.downsample.0"].output is net.layer2[0].downsample[1]
    assert found["layer1.0.conv2"].bias is None


def test_of_blocks_that_normalise_first_only_what_stands_directly_behind_counts():
    net = build_for("preact_resnet18", (3, 32, 32), 10, width=8)
    found = {units.name: units for units in anatomy(net, images()).units}
    block = net.stages[1][0]
    assert found["stages.1.0.conv1"].output is block.norm2
    assert found["stages.1.0.conv2"].output is block.conv2  # something is added before the next
    assert found["stages.1.0.conv2"].scale is None


class InPlace(nn.Module):
    """A layer, something that happens to it, and a normalisation."""

    def __init__(self, changed):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.changed = changed
        self.head = nn.Linear(3, 10)

    def forward(self, images):
        out = self.conv(images)
        if self.changed == "added to":
            out += images
        elif self.changed == "cut off":
            out = self.relu(out)
        return self.head(self.norm(out).mean((2, 3)))


@pytest.mark.parametrize(
    ("changed", "at"), [("", "norm"), ("added to", "conv"), ("cut off", "conv")]
)
def test_a_normalisation_counts_only_where_nothing_changes_the_layer_in_place(changed, at):
    net = InPlace(changed)
    found = {units.name: units for units in anatomy(net, images()).units}
    assert found["conv"].output is net.get_submodule(at)
    assert ("norm" in found) == (at == "conv")  # else it stands alone


class Twice(nn.Module):
    """One block that runs twice, each time behind another normalisation."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True)
        self.shared = nn.Linear(32, 12)
        self.norms = nn.ModuleList([nn.LayerNorm(12), nn.LayerNorm(12)])
        self.head = nn.Linear(12, 10)

    def forward(self, images):
        tokens = self.norms[0](self.shared(images[:, 0])) + self.norms[1](self.shared(images[:, 1]))
        return self.head(self.block(self.block(tokens)).mean(1))


def test_what_runs_twice_is_one_stage_and_is_masked_where_both_runs_pass():
    net = Twice()
    found = anatomy(net, images())
    assert [place.name for place in found.stages] == ["block"]
    shared = {units.name: units for units in found.units}["shared"]
    assert shared.output is net.shared


class TwoHeads(nn.Module):
    """As distilled transformers have them: each classifies a token of its own."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(32, 8)
        self.head, self.other = nn.Linear(8, 10), nn.Linear(8, 10)

    def forward(self, images):
        tokens = self.body(images[:, 0])
        return (self.head(tokens[:, 0]) + self.other(tokens[:, 1])) / 2


def test_heads_side_by_side_are_no_units_and_have_no_features_in_common():
    found = anatomy(TwoHeads(), images())
    assert [units.name for units in found.units] == ["body"]
    assert found.lacks["features"] == "TwoHeads has 2 classifiers side by side"


def test_maps_are_told_from_tokens_by_the_shape_of_the_images():
    oblong = images(side=32, width=64)
    net = build_for("preact_resnet18", (3, 32, 64), 10, width=16)  # 32 maps of 16x32
    assert not any(place.last for place in anatomy(net, oblong).stages)
    with torch.no_grad(), watched(anatomy(net, oblong).stages) as seen:
        net.eval()(oblong)
    assert [stage.shape[2:] for stage in seen.values()] == [
        (32, 64), (16, 32), (8, 16), (4, 8),
    ]  # fmt: skip
    swin = stranger("swin_t", 3, 10)
    assert all(place.last for place in anatomy(swin, oblong).stages)


OURS = {
    "simplecnn": ((1, 28, 28), {}, "maps", ["conv1", "conv2"]),
    "preact_resnet18": (
        (3, 32, 32), {"width": 8}, "maps", ["stages.0", "stages.1", "stages.2", "norm"],
    ),
    "vit": ((1, 28, 28), {}, "tokens", ["layers.1", "layers.2", "layers.3"]),
    "timm:convnext_atto": (
        (3, 32, 32), {}, "maps", [*(f"net.stages.{n}" for n in range(3)), "net.head.norm"],
    ),
    "timm:vit_tiny_patch16_224": (
        (3, 48, 48), {}, "tokens", [f"net.blocks.{n}" for n in (3, 7, 11)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_of_the_models_that_are_built_here_everything_is_derived(name):
    shape, params, form, stages = OURS[name]
    net = build_for(name, shape, 10, **params)
    found = anatomy(net, images(shape[0], shape[1]))
    assert found.lacks == {}
    assert [place.name for place in found.stages] == stages
    assert {place.form for place in found.stages} == {form}


def test_the_network_is_left_as_it_was():
    net = stranger("resnet18", 3, 10).train()
    net.bn1.eval()  # frozen, say
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    sample = images()
    kept = weakref.ref(sample)
    anatomy(net, sample)
    assert net.training
    assert net.layer1.training
    assert not net.bn1.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    del sample
    gc.collect()
    assert kept() is None  # what a hook noted would hold it


def test_what_cannot_be_derived_has_a_reason():
    squeezenet = torchvision.models.squeezenet1_1(weights=None, num_classes=10)
    found = anatomy(squeezenet, images(side=64))
    assert found.features is None
    assert found.lacks == {"features": "SqueezeNet does not end in a linear layer"}

    class Bare(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :10]

    assert anatomy(Bare(), images()).lacks == {
        "features": "Bare does not end in a linear layer",
        "units": "Bare has no layer whose units can be silenced",
        "stages": "Bare has no maps or tokens on the way",
    }


def test_gradients_flow_through_what_is_watched_and_to_masks():
    net = build_for("preact_resnet18", (3, 32, 32), 10, width=8)
    found = anatomy(net, images())
    units = found.units[3]
    mask = torch.ones(len(units), requires_grad=True)
    with masked([(units, mask)]), watched(found.stages) as seen:
        net(images())
    sum(stage.square().mean() for stage in seen.values()).backward()
    assert mask.grad is not None
    assert mask.grad.abs().sum() > 0
