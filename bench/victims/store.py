"""Victims on disk: safetensors for model and attack, JSON beside them that vouches for both."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from attacks import Attack
from bench.runtime import files
from bench.runtime.costs import Cost
from bench.spec.job import VictimJob

SCHEMA = 1
"""Of the JSON beside the weights."""


def save(job: VictimJob, net: nn.Module, attack: Attack, training: Cost) -> None:
    """Write a victim. Raises BenchError where it cannot, and then there is none."""
    tensors = {f"model.{name}": t.contiguous().cpu() for name, t in net.state_dict().items()}
    tensors |= {f"attack.{name}": t.contiguous().cpu() for name, t in attack.state_dict().items()}
    data = save_tensors(tensors)
    about = {
        "schema": SCHEMA,
        "cell": job.cell.to_json(),
        "identity": job.identity,
        "training": vars(training),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    # The JSON comes last and vouches for the weights: without it a victim does not exist.
    files.write(job.path, data)
    files.write(job.path.with_suffix(".json"), json.dumps(about, indent=1))


def load(job: VictimJob, net: nn.Module, attack: Attack) -> Cost | None:
    """Fill ``net`` and ``attack`` from the store; what training cost, or None if it is not there.

    Nothing is filled unless all of it fits. A damaged victim is named in a warning and set aside.
    """
    if not job.is_trained:
        return None
    path, about_path = job.path, job.path.with_suffix(".json")
    try:
        about = json.loads(about_path.read_text())
        if about["schema"] != SCHEMA:
            raise ValueError(f"schema {about['schema']}, this version reads {SCHEMA}")
        training = Cost(**about["training"])
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise ValueError("its checksum does not match")
        tensors = load_tensors(data)
        modules = {"model.": net, "attack.": attack}
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
        return training
    except (AttributeError, OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        lacks = "it lacks " if isinstance(error, KeyError) else ""
        reason = lacks + str(error).strip().partition("\n")[0]
        for file in (path, about_path):
            files.set_aside(file)
        warnings.warn(
            f"the stored victim of {job.cell.id} is damaged ({reason}): "
            f"set aside as {path.name}.damaged and trained anew",
            stacklevel=2,
        )
        return None


def carry(old: Path, job: VictimJob) -> bool:
    """Store the victim at ``old`` under the job's identity instead; False where it is damaged.

    For code that has been shown to train the same. The new files are whole before the old ones go.
    Raises BenchError where they cannot be written.
    """
    about_path = old.with_suffix(".json")
    try:
        about, data = json.loads(about_path.read_text()), old.read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            return False
    except (OSError, ValueError, KeyError):
        return False
    files.write(job.path, data)
    about["identity"] = job.identity
    files.write(job.path.with_suffix(".json"), json.dumps(about, indent=1))
    about_path.unlink(missing_ok=True)
    old.unlink(missing_ok=True)
    return True
