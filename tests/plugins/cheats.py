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
from fixtures.seeding import seed_of, seeded


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


@defense("repeats_the_draw")
class RepeatsTheDraw(SampleDetector):
    """Tries small seeds until one is its own, then draws what the attacker drew from the same."""

    def detect(self, view):
        flags = torch.zeros(len(view.suspect), dtype=torch.bool)
        own = view.generator.initial_seed()
        known = [s for s in range(1000) if seed_of("defense", s) == own]
        for seed in known or range(3):
            generator = torch.Generator().manual_seed(seed_of("poison", seed))
            labels = view.suspect.labels
            with seeded(seed_of("trigger", seed)):
                target = int(torch.randint(view.num_classes, ()))
            others = (labels != target).nonzero().flatten()
            count = round(0.1 * len(labels))
            flags[others[torch.randperm(len(others), generator=generator)[:count]]] = True
        self.report["known"] = known
        return SampleVerdict(flags.double(), flags)


@defense("keeps_for_later")
class KeepsForLater(SampleDetector):
    """Leaves what it sees where the next cell's process may find it."""

    def __init__(self, folder: str = "/dev/shm") -> None:
        self.path = Path(folder) / "triggerbench-test-left"

    def detect(self, view):
        self.path.write_bytes(view.suspect.digests().numpy().tobytes())
        return nothing(view)


@defense("rewrites_the_images")
class RewritesTheImages(SampleDetector):
    """Writes to the memory that it was handed, which other cells are handed too."""

    def detect(self, view):
        done = 0
        for number in range(3, 60):
            try:
                done += os.pwrite(number, bytes(100), 0)
            except OSError:
                continue
        for number in range(3, 60):
            try:
                with open(f"/dev/fd/{number}", "r+b") as file:  # noqa: PTH123
                    done += file.write(bytes(100))
            except Exception:
                continue
        self.report["written"] = done
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


@defense("remembers_scores")
class RemembersScores(InputDetector):
    """Compares each input with the others of its batch, and repeats itself when asked again."""

    def calibrate(self, view):
        self.known = {}

    def screen(self, images):
        flat = images.flatten(1)
        scores = (flat - flat.mean(0)).norm(dim=1)
        keys = [image.numpy().tobytes() for image in to_bytes(images)]
        pairs = zip(keys, scores.tolist(), strict=True)
        return torch.tensor([self.known.setdefault(key, score) for key, score in pairs])


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
