"""Victims on disk: safetensors for model, attack and roles, the poison's pixels beside them, and
JSON that vouches for both."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from attacks import CLEAN, Attack
from bench.runtime import files
from bench.runtime.costs import Cost
from bench.spec.job import VictimJob
from bench.victims.poison import Poison
from fixtures.images import mapped

SCHEMA = 2
"""Of the JSON beside the weights."""

CHUNK = 1 << 24
"""Bytes that are hashed at a time."""


def overlay_path(path: Path) -> Path:
    """Where the pixels of the poison lie, uint8, one image after another."""
    return path.with_suffix(".overlay")


def files_of(path: Path) -> tuple[Path, Path, Path]:
    """All files of a victim: its poison, its weights, and last the JSON that vouches for both."""
    return overlay_path(path), path, path.with_suffix(".json")


def save(job: VictimJob, net: nn.Module, attack: Attack, poison: Poison, training: Cost) -> None:
    """Write a victim whose poison lies at `overlay_path` already.

    Raises BenchError where it cannot, and then there is none.
    """
    tensors = {f"model.{name}": t.contiguous().cpu() for name, t in net.state_dict().items()}
    tensors |= {f"attack.{name}": t.contiguous().cpu() for name, t in attack.state_dict().items()}
    tensors |= {"poison.roles": poison.roles, "poison.labels": poison.labels}
    data = save_tensors(tensors)
    about = {
        "schema": SCHEMA,
        "cell": job.cell.to_json(),
        "identity": job.identity,
        "training": vars(training),
        "sha256": hashlib.sha256(data).hexdigest(),
        "overlay_sha256": _hash_of(overlay_path(job.path)),
    }
    # The JSON comes last and vouches for the rest: without it a victim does not exist.
    files.write(job.path, data)
    files.write(job.path.with_suffix(".json"), json.dumps(about, indent=1))


def load(
    job: VictimJob, net: nn.Module, attack: Attack, samples: int
) -> tuple[Cost, Poison] | None:
    """Fill ``net`` and ``attack`` from the store; what training cost, and the poison.

    ``samples``: of the training set. None if it is not there. Nothing is filled unless all of it
    fits. A damaged victim is named in a warning and set aside.
    """
    if not job.is_trained:
        return None
    overlay, path, about_path = files_of(job.path)
    try:
        about = json.loads(about_path.read_text())
        if about["schema"] != SCHEMA:
            raise ValueError(f"schema {about['schema']}, this version reads {SCHEMA}")
        training = Cost(**about["training"])
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise ValueError("its checksum does not match")
        if _hash_of(overlay) != about["overlay_sha256"]:
            raise ValueError("the checksum of its poison does not match")
        tensors = load_tensors(data)
        roles, labels = tensors.pop("poison.roles"), tensors.pop("poison.labels")
        if roles.shape != (samples,) or labels.shape != (int((roles != CLEAN).sum()),):
            raise ValueError("its poison is of another training set")
        pixels = mapped(overlay, len(labels), attack.shape)
        _fill({"model.": net, "attack.": attack}, tensors)
        return training, Poison(roles, labels, pixels)
    except (AttributeError, OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        lacks = "it lacks " if isinstance(error, KeyError) else ""
        reason = lacks + str(error).strip().partition("\n")[0]
        for file in files_of(path):
            files.set_aside(file)
        warnings.warn(
            f"the stored victim of {job.cell.id} is damaged ({reason}): "
            f"set aside as {path.name}.damaged and trained anew",
            stacklevel=2,
        )
        return None


def _fill(modules: dict[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """Raises ValueError, and fills nothing, where the tensors are of other modules."""
    wanted = {
        prefix + name: tensor.shape
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    if {name: tensor.shape for name, tensor in tensors.items()} != wanted:
        raise ValueError("its weights are of another model or attack")
    for prefix, module in modules.items():
        module.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )


def same(one: Path, other: Path) -> bool:
    """Whether two stored victims are equal to the last bit, their poison too."""
    return all(
        place(one).read_bytes() == place(other).read_bytes() for place in (Path, overlay_path)
    )


def carry(old: Path, job: VictimJob) -> bool:
    """Store the victim at ``old`` under the job's identity instead; False where it is damaged.

    For code that has been shown to train the same. The new files are whole before the old ones go.
    Raises BenchError where they cannot be written.
    """
    about_path = old.with_suffix(".json")
    try:
        about, data = json.loads(about_path.read_text()), old.read_bytes()
        pixels = overlay_path(old).read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            return False
        if hashlib.sha256(pixels).hexdigest() != about["overlay_sha256"]:
            return False
    except (OSError, ValueError, KeyError):
        return False
    files.write(overlay_path(job.path), pixels)
    files.write(job.path, data)
    about["identity"] = job.identity
    files.write(job.path.with_suffix(".json"), json.dumps(about, indent=1))
    about_path.unlink(missing_ok=True)
    old.unlink(missing_ok=True)
    overlay_path(old).unlink(missing_ok=True)
    return True


def _hash_of(path: Path) -> str:
    """SHA-256 of a file that may be larger than memory. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
