"""Strided convolutions on tiny maps: the same outputs, and gradients that are written."""

import copy
import itertools

import pytest
import torch
from torch import nn

from fixtures import training
from fixtures.allocator import keep_freed_memory
from fixtures.images import ImageSet
from fixtures.models import build_for
from fixtures.models.idle_taps import Cropped, without_idle_taps
from fixtures.recipes import RECIPES

SIZES = [
    (kernel, stride, padding, height, width)
    for kernel, stride, padding in itertools.product((1, 2, 3, 5, 7), (2, 3, 4), range(4))
    for height, width in itertools.product(range(1, 9), (1, 4, 7))
    if padding <= kernel // 2 and min(height, width) + 2 * padding >= kernel
]


def learnt(net, images, weights):
    net.zero_grad()
    outputs = net(images)
    (outputs * weights[: outputs.numel()].view_as(outputs)).sum().backward()
    return outputs, net.weight.grad.clone()


def test_outputs_and_gradients_stay():
    generator = torch.Generator().manual_seed(0)
    cropped = 0
    for kernel, stride, padding, height, width in SIZES:
        plain = nn.Conv2d(2, 4, kernel, stride, padding).double()
        other = without_idle_taps(copy.deepcopy(plain))
        assert type(other) is Cropped
        images = torch.randn(2, 2, height, width, dtype=torch.double, generator=generator)
        weights = torch.randn(1000, dtype=torch.double, generator=generator)
        for ours, theirs in zip(
            learnt(other, images, weights), learnt(plain, images, weights), strict=True
        ):
            torch.testing.assert_close(ours, theirs)
        cropped += bool((learnt(plain, images, weights)[1].abs().amax((0, 1)) == 0).any())
    assert cropped > 50  # of them have idle taps


@pytest.mark.parametrize(
    "left_alone",
    [
        nn.Conv2d(2, 2, 3, 1, 1),
        nn.Conv2d(2, 2, 3, 2, 1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3, 2, 2, dilation=2),
        nn.Conv2d(2, 2, 3, padding="same"),
    ],
)
def test_what_has_none_or_is_of_another_kind_stays(left_alone):
    assert type(without_idle_taps(left_alone)) is nn.Conv2d


def test_a_map_too_small_for_the_kernel_is_still_torchs_error():
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        without_idle_taps(nn.Conv2d(2, 2, 5, 2, 1))(torch.rand(1, 2, 2, 2))


def test_the_gradient_of_an_idle_tap_is_zero_whatever_lay_in_memory():
    net = build_for("timm:resnet10t", (1, 12, 12), 4).train()
    layer = net.net.layer4[0].conv1  # 3x3, stride 2, of maps of one pixel
    images = torch.rand(8, 1, 12, 12).contiguous(memory_format=torch.channels_last)
    keep_freed_memory()
    for _ in range(20):
        for size in (1_000, 10_000, 100_000, 1_000_000, layer.weight.numel()):
            [torch.full((size,), torch.nan) for _ in range(4)]  # freed at once, for others to take
        net.zero_grad()
        with training.autocast(torch.device("cpu")):
            net(images).float().sum().backward()
        idle = torch.ones(3, 3, dtype=torch.bool)
        idle[1, 1] = False
        assert (layer.weight.grad[..., idle] == 0).all()


def test_a_network_of_timm_learns_the_same_twice_from_tiny_images():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (200,), generator=generator)
    data = ImageSet(torch.rand(200, 1, 12, 12, generator=generator), labels)
    recipe = RECIPES.create("sgd", epochs=2)
    first, second = (
        training.fit(
            build_for("timm:resnet10t", (1, 12, 12), 4),
            data,
            recipe,
            generator=torch.Generator().manual_seed(1),
        )
        for _ in range(2)
    )
    assert first == second
