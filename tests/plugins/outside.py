"""Models and images as they come from outside: in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from fixtures.images import ImageSet, to_bytes


def model_file(net: nn.Module, path: Path, images: Tensor) -> Path:
    """A network in the form that its name says. ``images``: a batch as it takes them."""
    net = net.eval().to(memory_format=torch.contiguous_format)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(weights, path)
    elif path.suffix == ".pt":
        named = {f"module.{name}": value for name, value in weights.items()}
        torch.save({"epoch": 3, "state_dict": named}, path)
    elif path.suffix == ".ts":
        torch.jit.save(torch.jit.trace(net, images), str(path))
    elif path.suffix == ".pt2":
        many = ({0: torch.export.Dim("batch", min=1)},)
        torch.export.save(torch.export.export(net, (images,), dynamic_shapes=many), path)
    else:
        torch.onnx.export(
            *(net, (images,), str(path)),
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            dynamo=False,
        )
    return path


def images_by_class(images: ImageSet, folder: Path, classes: Sequence[str]) -> Path:
    """Grey images as PNGs in a folder for each class."""
    for at, (image, label) in enumerate(zip(to_bytes(images.images), images.labels, strict=True)):
        (folder / classes[label]).mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / classes[label] / f"{at:04}.png")
    return folder
