"""The networks that come with the project, and those of timm."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from bench import Cell, run
from bench.checks import check_model
from fixtures.errors import BenchError, PluginError, UnknownName
from fixtures.models import MODELS, build_for
from fixtures.models.vgg_small import haar

SMALL = {
    "preact_resnet18": {"width": 4},
    "vgg_small": {"width": 4},
    "vit": {"width": 16, "depth": 2},
    "timm:resnet10t": {},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_model_conforms(name):
    check_model(name, **SMALL[name])


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (28, 7), (32, 8), (64, 16), (224, 16)])
def test_a_patch_of_a_vit_follows_from_the_size_of_the_images(side, patch):
    net = build_for("vit", (3, side, side), 10, width=16, depth=1)
    assert net.patches.kernel_size == (patch, patch)
    assert len(net.places) == (side // patch) ** 2


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"width": 30, "heads": 4}, "width 30 is no multiple of 4 heads"),
        ({"patch": 40}, "a patch of 40 pixels is larger than an image of [1, 28, 28]"),
    ],
)
def test_a_vit_that_cannot_be_is_one_line(params, said):
    with pytest.raises(PluginError, match=re.escape(said)):
        build_for("vit", (1, 28, 28), 10, **params)


def test_the_stem_of_the_small_network_loses_nothing_and_is_not_learned():
    wavelets = haar(3).flatten(1)
    assert torch.allclose(wavelets @ wavelets.T, torch.eye(12), atol=1e-6)
    assert torch.allclose(haar(1).flatten(1) @ haar(1).flatten(1).T, torch.eye(4), atol=1e-6)
    net = build_for("vgg_small", (3, 32, 32), 10)
    learned = {name for name, weight in net.named_parameters() if weight.requires_grad}
    assert {name for name, _ in net.named_parameters()} - learned == {"stem.weight"}


class Fixed(nn.Module):
    """Made for colour images of 64 pixels and five classes, whatever is asked of it."""

    def __init__(self, shape, num_classes):
        super().__init__()
        self.head = nn.Linear(3 * 64 * 64, 5)

    def forward(self, images):
        return self.head(images.flatten(1))


class OfColour(nn.Module):
    """Any size, three channels; two things for each image."""

    def __init__(self, shape, num_classes, answers=1):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)
        self.answers = answers

    def forward(self, images):
        logits = self.head(self.conv(images).mean((2, 3)))
        return logits if self.answers == 1 else (logits, logits)


@pytest.mark.parametrize(
    ("factory", "shape", "params", "said"),
    [
        (
            Fixed, (3, 64, 64), {},
            "images [3, 64, 64] of 10 classes: ValueError: it answers [2, 5] for 2 images, no "
            "logits [2, 10]",
        ),
        (
            OfColour, (1, 32, 32), {},
            "to have 3 channels, but got 1 channels instead; it takes [3, 32, 32], [3, 64, 64], "
            "[3, 224, 224]",
        ),
        (OfColour, (3, 32, 32), {"answers": 2}, "it answers tuple for 2 images, no logits [2, 10]"),
        (lambda **_: "net", (3, 32, 32), {}, "TypeError: it is no nn.Module but str"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_one_line_that_says_what_it_takes(
    factory, shape, params, said
):
    with MODELS.temporary():
        MODELS.register("theirs")(factory)
        with pytest.raises(PluginError) as error:
            build_for("theirs", shape, 10, **params)
    line = str(error.value)
    assert line.startswith("model 'theirs' cannot be built for images ")
    assert said in line
    assert "\n" not in line


def test_a_network_that_takes_another_size_says_which():
    with MODELS.temporary():
        MODELS.register("theirs")(lambda shape, num_classes: nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 64 * 64, num_classes)
        ))  # fmt: skip
        with pytest.raises(PluginError, match=r"; it takes \[3, 64, 64\]$"):
            build_for("theirs", (3, 32, 32), 10)


def test_pretrained_weights_that_cannot_be_had_are_one_line(monkeypatch):
    import timm

    made = timm.create_model

    def offline(name, pretrained, **params):
        if pretrained:
            raise ConnectionError("no way to the hub")
        return made(name, pretrained=False, **params)

    monkeypatch.setattr(timm, "create_model", offline)
    assert build_for("timm:resnet10t", (3, 32, 32), 10) is not None
    with pytest.raises(BenchError) as error:
        build_for("timm:resnet10t", (3, 32, 32), 10, pretrained=True)
    assert str(error.value) == (
        "model 'timm:resnet10t': its pretrained weights cannot be had (ConnectionError: no way to "
        "the hub); without pretrained=true none are needed"
    )


def test_networks_made_anew_are_built_without_pretrained_weights():
    cell = Cell("digits", model="timm:resnet18", model_params={"pretrained": True, "stem_width": 8})
    assert cell.architecture == {"stem_width": 8}


def test_networks_of_timm_are_found_by_glob_and_only_behind_their_prefix():
    assert "timm:resnet18" in MODELS.names("timm:resnet1*")
    assert "timm:resnet18" in MODELS
    assert "timm:resnet81" not in MODELS
    assert MODELS.names("timm:") == []
    assert not any(name.startswith("timm:") for name in MODELS.names("*"))


def test_a_name_that_timm_does_not_know_lists_near_ones():
    with pytest.raises(UnknownName, match=r"has no network 'resnet81' \(did you mean resnet18"):
        MODELS["timm:resnet81"]
    assert "timm:resnet81" not in MODELS


def test_a_network_of_timm_that_needs_another_size_says_which():
    with pytest.raises(BenchError) as error:
        build_for("timm:inception_v3", (3, 28, 28), 10)
    said = str(error.value)
    assert said.startswith(
        "model 'timm:inception_v3' cannot be built for images [3, 28, 28] of 10 classes: "
    )
    assert said.endswith("; it takes [3, 224, 224], [1, 224, 224]")
    assert "\n" not in said


def test_without_timm_its_networks_are_one_line_and_all_others_are_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BenchError, match=r"python -m pip install 'triggerbench\[timm\]'"):
        MODELS["timm:resnet18"]
    assert "timm:resnet18" not in MODELS
    assert "vit" in MODELS.names()


def test_timm_is_imported_only_when_it_is_asked_for(surroundings):
    asked = (
        "import sys; from fixtures.models import MODELS; MODELS.names(); "
        "print('timm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], env=surroundings(), capture_output=True, text=True
    )
    assert done.stdout == "False\n"


def test_a_network_of_timm_is_repaired_in_its_defenders_process(workspace):
    record = run(
        Cell(
            "tiny",
            model="timm:resnet10t",
            attack="pixel",
            defense="fine_tuning",
            defense_params={"epochs": 1, "min_steps": 5},
        ),
        workspace,
    )
    assert record.identity["versions"]["timm"]
    assert "stays" not in record.details  # its weights came back
    assert 0 <= record.metrics["asr"] <= 1


def test_images_stay_in_0_to_1_and_are_normalised_inside():
    net = build_for("timm:resnet18", (1, 32, 32), 10)
    assert net.mean.shape == (1, 1, 1)
    assert net.mean.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    images = torch.rand(2, 1, 32, 32)
    normalised = (images - net.mean) / net.std
    assert torch.equal(net.eval()(images), net.net(normalised))
