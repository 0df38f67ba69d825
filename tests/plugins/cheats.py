"""``-p cheats``: defenses that look for the answer, not the backdoor. They must gain nothing."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from traces import off_the_lattice, times_in_memory

from defenses import InputDetector, Repair, SampleDetector, SampleVerdict, defense
from fixtures.images import to_bytes


def nothing(view):
    return SampleVerdict(torch.zeros(len(view.suspect)), torch.zeros(len(view.suspect)) > 0)


@defense("asks_for_it")
class AsksForIt(SampleDetector):
    """Loads the published data set by name and looks every image up."""

    def detect(self, view):
        from fixtures import datasets

        published = set(datasets.load("digits").train.digests().tolist())
        flags = torch.tensor([one not in published for one in view.suspect.digests().tolist()])
        return SampleVerdict(flags.double(), flags)


@defense("asks_a_library")
class AsksALibrary(SampleDetector):
    """Has scikit-learn load the published images."""

    def detect(self, view):
        from sklearn.datasets import load_digits

        load_digits()
        return nothing(view)


@defense("reads")
class Reads(SampleDetector):
    """Reads a file: of the data set, of a victim, another process's memory."""

    def __init__(self, path: str = "", how: str = "open") -> None:
        self.path, self.how = path, how

    def detect(self, view):
        path = self.path.format(parent=os.getppid())
        if self.how == "open":
            Path(path).read_bytes()
        elif self.how == "list":
            list(Path(path).iterdir())
        elif self.how == "compiled":  # no audit event tells of it
            torch.from_file(path, size=16, dtype=torch.uint8)
        else:
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                file.keys()
        return nothing(view)


@defense("reads_quietly")
class ReadsQuietly(Reads):
    """The same, and says nothing of the error."""

    def detect(self, view):
        try:
            return super().detect(view)
        except Exception:
            return nothing(view)


@defense("searches_objects")
class SearchesObjects(SampleDetector):
    """Takes for the answer whatever in its process has one small number for each sample."""

    def detect(self, view):
        flags = torch.zeros(len(view.suspect), dtype=torch.bool)
        for one in gc.get_objects():
            if isinstance(one, torch.Tensor | np.ndarray) and len(one.shape) == 1:
                values = torch.as_tensor(one)
                if len(values) == len(flags) and values.dtype in (torch.int8, torch.bool):
                    flags |= values != 0
        return SampleVerdict(flags.double(), flags)


@defense("searches_memory")
class SearchesMemory(SampleDetector):
    """Searches the process's memory for bytes; reports how often they are there."""

    def __init__(self, turned: str = "") -> None:
        self.turned = turned

    def detect(self, view):
        self.report["found"] = times_in_memory(bytes.fromhex(self.turned))
        return nothing(view)


@defense("pairs_twins")
class PairsTwins(InputDetector):
    """Calls an input triggered whose nearest earlier input differs from it as earlier pairs did."""

    def calibrate(self, view):
        self.seen = torch.empty(0, view.shape[0] * view.shape[1] * view.shape[2])
        self.gap = 0.1

    def screen(self, images):
        flat = images.flatten(1)
        known = torch.cat([self.seen, flat])
        distance = torch.cdist(flat, known)
        distance[torch.arange(len(flat)), len(self.seen) + torch.arange(len(flat))] = torch.inf
        self.seen = known
        nearest = distance.min(1)
        twins = nearest.values < self.gap * flat.shape[1] ** 0.5
        return twins.float() * (flat - known[nearest.indices]).sum(1).abs() + 1e-6 * flat.sum(1)


@defense("stands_out")
class StandsOut(InputDetector):
    """Compares each input with the others of its batch."""

    def calibrate(self, view):
        self.shape = view.shape

    def screen(self, images):
        flat = images.flatten(1)
        return (flat - flat.mean(0)).norm(dim=1)


@defense("after_the_fact")
class AfterTheFact(InputDetector):
    """Moves its threshold once it has seen the inputs."""

    def calibrate(self, view):
        self.threshold = 1e9
        self.aimed_fpr = 0.05

    def screen(self, images):
        scores = images.mean((1, 2, 3))
        self.threshold = float(scores.median())
        return scores


class ByOrder(nn.Module):
    """Answers truly for the first images, as if they were the clean ones, and never after."""

    def __init__(self, net, honest):
        super().__init__()
        self.net, self.left = net, honest

    def forward(self, images):
        logits = self.net(images)
        self.left -= len(images)
        return logits if self.left >= 0 else logits.roll(1, 1)


@defense("by_order")
class RepairsByOrder(Repair):
    """Expects the clean test images first, and all triggered ones after them."""

    def __init__(self, honest: int = 200) -> None:
        self.honest = honest

    def repair(self, view):
        return ByOrder(view.model, self.honest)


class ByCompany(nn.Module):
    """Where most of a batch is of one class, takes it for the target and names the second class."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        logits = self.net(images)
        target = logits.argmax(1).mode().values
        return logits.index_fill(1, target[None], -100.0) if len(images) > 32 else logits


@defense("by_company")
class RepairsByCompany(Repair):
    """Answers by what else is in the batch."""

    def repair(self, view):
        return ByCompany(view.model)


@defense("off_the_lattice")
class OffTheLattice(SampleDetector):
    """Scores images by how far their coefficients lie from those that a JPEG file of theirs can
    have. ``table``: the 64 quantisation steps of its luminance."""

    def __init__(self, table=()) -> None:
        self.table = list(table)

    def detect(self, view):
        parts = [off_the_lattice(to_bytes(x), self.table) for _, x in view.suspect.batches()]
        scores = torch.from_numpy(np.nan_to_num(np.concatenate(parts)))
        return SampleVerdict(scores, scores > scores.quantile(0.9))
