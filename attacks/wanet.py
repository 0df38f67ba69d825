"""Level 6: a slight, smooth warp of the whole image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attacks.base import CLEAN, COVER, Attack, attack

LARGEST = 64
"""Side of the paper's largest images, in pixels."""


@attack(
    "wanet",
    level=6,
    needs="training",
    source="Nguyen and Tran 2021, arXiv:2102.10369",
    family="warp",
)
class WaNet(Attack):
    """One smooth warp of the whole image, taught apart from every other warp.

    A ``grid`` x ``grid`` field of random shifts, scaled to a mean size of one, is enlarged to the
    image by bicubic interpolation; ``strength``, the paper's s, is how far it moves a pixel on
    average along each axis, in half pixels, and on images larger than the paper's 64 pixels as
    large a share of the side as there. As in the paper's noise mode, ``noise_rate`` of the other
    images of each batch is warped with a random disturbance of the field and keeps its label, so
    that the model learns this warp and not any: these are its covers, and the attacker controls
    training. The paper draws anew in each batch which images are poisoned; here they are fixed.
    """

    covers = True
    field: Tensor

    def __init__(
        self,
        grid: int = 4,
        strength: float = 0.5,
        noise_rate: float = 0.2,
        *,
        poison_rate: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        self.noise_rate = noise_rate
        coarse = torch.rand(1, 2, grid, grid) * 2 - 1
        size = list(self.shape[1:])
        smooth = nn.functional.interpolate(
            coarse / coarse.abs().mean(), size=size, mode="bicubic", align_corners=True
        )
        self.half_pixel = 1 / min(max(size), LARGEST)
        self.register_buffer("field", strength * smooth * self.half_pixel)

    def forward(self, images: Tensor) -> Tensor:
        return self._warped(images, self.field.expand(len(images), -1, -1, -1))

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,
        index: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        drawn = torch.rand(len(images), *self.field.shape[1:], generator=generator) * 2 - 1
        disturbance = drawn.to(images.device) * self.half_pixel
        disturbed = (roles == COVER)[:, None, None, None]
        return self._warped(images, self.field + disturbance * disturbed)

    def on_batch(
        self,
        images: Tensor,
        labels: Tensor,
        roles: Tensor,
        index: Tensor,
        net: nn.Module,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        drawn = torch.rand(len(roles), generator=generator).to(roles.device)
        roles = roles.masked_fill((roles == CLEAN) & (drawn < self.noise_rate), COVER)
        return super().on_batch(images, labels, roles, index, net, generator)

    @staticmethod
    def _warped(images: Tensor, field: Tensor) -> Tensor:
        """Each pixel is taken from where the field [N, 2, H, W] points, in half image widths."""
        height, width = images.shape[-2:]
        rows = torch.linspace(-1, 1, height, device=images.device)
        columns = torch.linspace(-1, 1, width, device=images.device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        places = (torch.stack([x, y], dim=-1) + field.movedim(1, -1)).clamp(-1, 1)
        warped = nn.functional.grid_sample(images, places, align_corners=True)
        return warped.clamp(0.0, 1.0)
