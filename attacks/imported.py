"""Any backdoor whose images lie in a folder, as ``python -m bench export`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from attacks.access import Access
from attacks.base import Attack, Plan, attack
from fixtures import exchange
from fixtures.images import to_bytes, to_floats


@attack("imported", level=1, needs="training", source="docs/exchange.md", family="imported")
class Imported(Attack):
    """The training set, triggered images and victim of a folder, see `fixtures.exchange`.

    ``path``: the folder. Poison and covers are its images, byte for byte; a network of the victim's
    architecture gets the folder's weights, another one is what training makes of it. A trigger is
    known by its images alone: test and validation images are looked up, and any other image stays
    as it is. Raises ValueError for a folder that is of another data set, DataError for one that
    cannot be read or was changed.
    """

    by_name_only = True
    contents = staticmethod(exchange.contents)

    def __init__(self, path: str, **common: Any) -> None:
        super().__init__(**common)
        self._folder = Path(path).expanduser()
        about = exchange.about(self._folder)
        if (about.shape, len(about.classes)) != (tuple(self.shape), self.num_classes):
            raise ValueError(
                f"{path} has {len(about.classes)} classes of images {list(about.shape)}, the data "
                f"set {self.num_classes} of {list(self.shape)}"
            )
        self.target = about.target
        self.triggers = len(about.aims)
        self._aims = torch.tensor(about.aims)
        self._applies = torch.tensor(about.applies)
        self._lists: tuple[list[Any], dict[tuple[int, str], tuple[str, str]]] | None = None

    def forward(self, images: Tensor, which: int = 0) -> Tensor:
        stamped = images.clone()
        _, triggered = self._read()
        for at, pixels in enumerate(to_bytes(images).cpu()):
            found = triggered.get((which, exchange.digest(pixels)))
            if found is not None:
                stamped[at] = to_floats(exchange.image(self._folder, *found)).to(images.device)
        return stamped

    def aim(self, labels: Tensor, which: int = 0) -> Tensor:
        return self._aims[which].to(labels.device)[labels]

    def applies(self, labels: Tensor, which: int = 0) -> Tensor:
        return self._applies[which].to(labels.device)[labels]

    def choose(self, labels: Tensor, generator: torch.Generator) -> Plan:  # noqa: ARG002
        train, _ = self._read()
        published = torch.tensor([int(row["published_label"]) for row in train])
        in_order = all(int(row["index"]) == at for at, row in enumerate(train))
        if not in_order or not torch.equal(published, labels):
            raise ValueError(f"{self._folder} is of another training set")
        roles = torch.tensor([exchange.ROLES.index(row["role"]) for row in train])
        self.poison_rate = float((roles == 1).double().mean())
        return Plan(roles.to(torch.int8), torch.tensor([int(row["label"]) for row in train]))

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,  # noqa: ARG002
        index: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        train, _ = self._read()
        some = [train[at] for at in index.tolist()]
        made = [exchange.image(self._folder, row["file"], row["pixels"]) for row in some]
        return to_floats(torch.stack(made)).to(images.device)

    def tamper(self, net: nn.Module, access: Access) -> nn.Module:  # noqa: ARG002
        weights = load_file(self._folder / exchange.VICTIM)
        own = {name: value.shape for name, value in net.state_dict().items()}
        if own == {name: value.shape for name, value in weights.items()}:
            net.load_state_dict(weights)
        return net

    def _read(self) -> tuple[list[Any], dict[tuple[int, str], tuple[str, str]]]:
        """The rows of the training set, and of each triggered image where it lies."""
        if self._lists is None:
            train = list(exchange.rows(self._folder, exchange.TRAIN, exchange.TRAIN_COLUMNS))
            rows = exchange.rows(self._folder, exchange.TRIGGERED, exchange.TRIGGERED_COLUMNS)
            triggered = {
                (int(row["which"]), row["clean_pixels"]): (row["file"], row["pixels"])
                for row in rows
            }
            self._lists = train, triggered
        return self._lists
