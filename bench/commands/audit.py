"""``python -m bench audit``: is this model backdoored?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.parsing import Subparsers
from fixtures.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.auditing.opening import Opened
    from bench.auditing.outcome import Audit
    from bench.auditing.preprocess import Preprocess
    from fixtures.images import ImageSet

FILES = {
    "md": "audit.md",
    "html": "audit.html",
    "json": "audit.json",
    "sarif": "audit.sarif",
    "junit": "audit.xml",
}
"""Formats, and what each is called in the folder of ``--report``."""


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "audit", help="is this model backdoored? exit code 0: clean, 1: backdoored, 2: not judged"
    )
    add_argument = command.add_argument
    add_argument("model", metavar="MODEL", type=Path,
                 help="a safetensors or PyTorch file, TorchScript archive, torch.export program or "
                 "ONNX model; nothing is unpickled")  # fmt: skip
    add_argument("--data", required=True, type=Path, metavar="DIR",
                 help="clean images: a folder or zip with one folder a class")  # fmt: skip
    add_argument("--arch", default="", metavar="NAME",
                 help="whose weights they are: timm:NAME, a model of `list`, or "
                 "package.module:factory, whose code is then imported")  # fmt: skip
    add_argument("--preprocess", metavar="'mean=..;std=..;scale=..'",
                 help="what the model wants, of images in [0, 1]. Default: guessed")  # fmt: skip
    add_argument("--size", type=int, metavar="PIXELS", help="the side that images are resized to")
    add_argument("--classes", default="", metavar="A,B,C",
                 help="folders in the order of the model's outputs. Default: sorted")  # fmt: skip
    add_argument("--detectors", default="", metavar="A,B",
                 help="the detectors that are asked. Default: every one that applies")  # fmt: skip
    add_argument("--device", default="auto", metavar="NAME",
                 help="auto, cpu, cuda or cuda:N. Default: auto, a GPU if any")  # fmt: skip
    add_argument("--limit", metavar="SECONDS",
                 help="what one detector may take; past it, it could not judge")  # fmt: skip
    add_argument("--odds", type=Path, metavar="FILE",
                 help="what is known of the detectors' errors, made by `odds --to`. Default: what "
                 "the benchmark's own zoo says")  # fmt: skip
    add_argument("--suspect", type=Path, metavar="DIR", help="the training set, by class")
    add_argument("--inputs", type=Path, metavar="DIR", help="traffic to be screened")
    add_argument("--format", default="md", metavar=",".join(FILES),
                 help="one or more. Default: md")  # fmt: skip
    add_argument("--report", type=Path, metavar="DIR",
                 help="where they are written. Default: one, to standard output")  # fmt: skip
    add_argument("--repair", metavar="NAME", help="a repair, such as fine_tuning")
    add_argument("--out", type=Path, metavar="FILE", help="the repaired model, in the same form")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """A crash is no verdict: whatever is raised becomes one line and exit code 2."""
    try:
        return _run(options)
    except BenchError:
        raise
    except Exception as error:
        from bench.auditing.lines import one_line

        raise BenchError(
            f"the audit failed, which says nothing of the model: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error


def _run(options: argparse.Namespace) -> int:
    forms = _forms(options)
    from bench.auditing import images, opening, preprocess
    from bench.auditing.audit import audit
    from bench.auditing.mending import check_repair
    from bench.runtime import files
    from bench.runtime.deadline import parse_seconds
    from fixtures.places import cache_folder

    limit = parse_seconds("--limit", options.limit)
    how = None if options.preprocess is None else preprocess.read(options.preprocess)
    clean, classes = images.clean(options.data, options.size)
    suspect = inputs = None
    if options.repair:
        check_repair(options.repair, has_suspect=options.suspect is not None)
        files.make_folder(options.out.absolute().parent)
    if options.suspect is not None:
        suspect = images.suspect(options.suspect, classes, options.size)
    if options.inputs is not None:
        inputs = images.traffic(options.inputs, options.size)
    for name, other in (("--suspect", suspect), ("--inputs", inputs)):
        if other is not None and other.shape != clean.shape:
            raise BenchError(
                f"{name}: its images are {list(other.shape)}, those of --data {list(clean.shape)}; "
                "--size resizes all of them"
            )
    if options.classes:
        order = _order(options.classes.split(","), classes)
        clean, classes = clean.labelled(order[clean.labels]), tuple(options.classes.split(","))
        suspect = suspect and suspect.labelled(order[suspect.labels])
    file = opening.opened(options.model, options.arch, shape=clean.shape, classes=len(classes))
    found = audit(
        file.net,
        clean,
        classes=classes,
        suspect=suspect,
        inputs=inputs,
        preprocess=how,
        detectors=[name for name in options.detectors.split(",") if name],
        device=options.device,
        limit=limit,
        known=options.odds,
        name=options.model.name,
        form=file.form,
        kept=cache_folder() / "audits",
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    _report(found, clean, forms, options.report)
    if options.repair:
        _repair(options, file, clean, classes, suspect, found.how)
    return found.exit_code


def _forms(options: argparse.Namespace) -> list[str]:
    forms = [form for form in options.format.split(",") if form]
    unknown = sorted(set(forms) - set(FILES))
    if unknown or not forms:
        raise BenchError(
            f"--format: {', '.join(unknown) or 'none given'}; known: {', '.join(FILES)}"
        )
    if len(forms) > 1 and options.report is None:
        raise BenchError(f"--format: {len(forms)} of them need --report DIR to be written to")
    if bool(options.repair) != bool(options.out):
        raise BenchError("--repair NAME and --out FILE go together")
    return forms


def _order(wanted: list[str], classes: tuple[str, ...]) -> Tensor:
    """Of each folder, in sorted order, its place among the outputs: int64 [K]."""
    import torch

    if sorted(wanted) != sorted(classes):
        other = sorted(set(wanted) ^ set(classes))[:3] or ["each once"]
        raise BenchError(f"--classes: they are not the folders of --data: {', '.join(other)}")
    return torch.tensor([wanted.index(name) for name in classes])


def _report(found: Audit, clean: ImageSet, forms: list[str], folder: Path | None) -> None:
    from bench.auditing import machine, pages
    from bench.runtime import files

    shown = pages.pictures(found, clean) if {"md", "html"} & set(forms) else {}
    for form in forms:
        if form == "md":
            text = pages.markdown(found)
        elif form == "html":
            text = pages.page(found, shown)
        else:
            text = machine.FORMS[form](found)
        if folder is None:
            print(text)
        else:
            print(f"{found.verdict}: {files.write(folder / FILES[form], text)}")
    if folder is not None and "md" in forms:
        for detector, png in shown.items():
            files.write(folder / f"recovered-{detector}.png", png)


def _repair(
    options: argparse.Namespace,
    file: Opened,
    clean: ImageSet,
    classes: tuple[str, ...],
    suspect: ImageSet | None,
    how: Preprocess,
) -> None:
    import torch

    from bench.auditing import mending
    from bench.auditing.audit import repair

    done = repair(
        file.net,
        clean,
        defense=options.repair,
        classes=classes,
        suspect=suspect,
        preprocess=how,
        device=options.device,
    )
    mending.write(options.out, file.form, done.net, clean.batch(torch.arange(2)))
    print(
        f"{options.repair}: accuracy on the clean images {100 * done.before:.1f} % before, "
        f"{100 * done.after:.1f} % after; what is left of a backdoor cannot be known without its "
        f"trigger: {options.out}",
        file=sys.stderr,
    )
