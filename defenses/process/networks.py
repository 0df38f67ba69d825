"""A network that a defense returned: as weights where its class is known, else it stays here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from defenses.handed import Handed
from fixtures.blame import need
from fixtures.training import autocast

COMPARED = 32
"""Images on which weights must say what the network says."""

ROUNDING = 1e-3
"""Share of the logits' range by which they may differ: the same numbers, summed otherwise."""


def check(plugin: str, method: str, net: Any, device: torch.device) -> nn.Module:
    """Raises PluginError unless it is a network on the victim's device."""
    need(isinstance(net, nn.Module), plugin, f"{method} returned {_article(net)}, no network")
    elsewhere = {str(t.device) for t in (*net.parameters(), *net.buffers())} - {_on(device)}
    need(
        not elsewhere,
        plugin,
        f"{method} returned a network on {', '.join(sorted(elsewhere))}, expected {_on(device)}",
    )
    assert isinstance(net, nn.Module)
    return net.eval()


def weights_of(net: nn.Module, handed: Handed) -> dict[str, Tensor] | None:
    """Its state, where a plain network of the victim's architecture says the same with it.

    None for a wrapper, an ensemble, another class, and for what a state does not hold: hooks,
    changed methods, attributes.
    """
    known = handed.network(seed=0)
    if _kinds(net) != _kinds(known) or any(_is_changed(module) for module in net.modules()):
        return None
    state, expected = net.state_dict(), known.state_dict()
    if {n: (t.shape, t.dtype) for n, t in state.items()} != {
        n: (t.shape, t.dtype) for n, t in expected.items()
    }:
        return None
    known.load_state_dict(state)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COMPARED, *handed.shape, generator=generator)
    says, would = logits(net, images, handed.device), logits(known, images, handed.device)
    same = says.shape == would.shape and bool(
        ((says - would).abs() <= ROUNDING * (1 + would.abs().max())).all()
    )
    return {name: tensor.detach() for name, tensor in state.items()} if same else None


@torch.no_grad()
def logits(net: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """What a network says of images float32 [B, C, H, W]: float32 [B, K] on the CPU."""
    given = images.to(device).contiguous(memory_format=torch.channels_last)
    with autocast(device):
        found: Tensor = net(given)
    return found.float().cpu()


def certifier(plugin: str, net: nn.Module) -> Callable[[Tensor], Any]:
    """A network's ``certify``. Raises PluginError where it has none."""
    method: Any = getattr(net, "certify", None)
    need(callable(method), plugin, f"train returned {type(net).__name__} without certify(images)")
    found: Callable[[Tensor], Any] = method
    return found


@torch.no_grad()
def certify(method: Callable[[Tensor], Any], images: Tensor, device: torch.device) -> Any:
    """What it certifies of images float32 [B, C, H, W], called as a network is for its logits."""
    with autocast(device):
        return method(images.to(device).contiguous(memory_format=torch.channels_last))


def _kinds(net: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(module) for name, module in net.named_modules()}


def _is_changed(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _on(device: torch.device) -> str:
    """As tensors name it: ``cuda`` is the GPU in use."""
    return str(torch.empty(0, device=device).device)


def _article(value: Any) -> str:
    name = getattr(value, "__name__", "")
    return "a lambda" if name == "<lambda>" else type(value).__name__
