"""``python -m bench new``: what it writes works as it is, and bad input leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.__main__ import main
from bench.checks import check_dataset, check_model
from bench.harness.new import DEFENSES, class_of, commands, new
from bench.runtime import files
from fixtures.datasets import RawData
from fixtures.errors import BenchError, PluginError
from fixtures.images import ImageSet

CHECKOUT = Path(__file__).resolve().parents[1]
OTHERS = {"attack": "my_attack", "dataset": "my_data", "model": "my_net"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An empty folder outside the checkout, then one plugin of every kind in it."""
    folder = tmp_path_factory.mktemp("new")
    for kind, name in OTHERS.items():
        new(kind, name, folder)
    for kind in DEFENSES:
        new("defense", f"my_{kind}", folder, defense=kind)
    return folder


def run(command: str, *more: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """A printed command, as it is, with this Python for its ``python``."""
    python, *arguments = shlex.split(command)
    assert python == "python"
    return subprocess.run(
        [sys.executable, *arguments, *more],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_what_is_written_passes_its_own_tests(folder):
    done = run("python -m pytest -q -p no:cacheprovider", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


def test_what_is_written_runs_in_the_benchmark_from_its_own_folder(folder):
    every = " ".join(f"-p {path.stem}" for path in sorted(folder.glob("my_*.py")))
    defenses = ",".join(["none", *(f"my_{kind}" for kind in DEFENSES)])
    done = run(
        f"python -m pytest --pyargs bench -p bench.plugin {every} --dataset my_data "
        f"--model my_net --attack my_attack --defense {defenses}",
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout
    records = (folder / "results" / "latest" / "records").glob("*.json")
    assert {path.stem for path in records} == {
        "my_data-my_net-my_attack-s0",
        *(f"my_data-my_net-my_attack-my_{kind}-s0" for kind in DEFENSES),
    }


@pytest.mark.parametrize("where", ["its folder", "the checkout"])
def test_the_printed_command_selects_the_plugin_against_everything(folder, where):
    cwd, path = (folder, "") if where == "its folder" else (CHECKOUT, str(folder))
    _, command = commands("attack", "my_attack", cwd)
    done = run(command, "--dataset=digits", "--collect-only", "-q", cwd=cwd, path=path)
    ids = [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]
    assert "test_attack[digits-simplecnn-my_attack-s0]" in ids
    assert "test_repair[digits-simplecnn-my_attack-fine_pruning-s0]" in ids
    assert all("-my_attack-" in name for name in ids)


def test_the_files_and_both_commands_are_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "defense", "my_guess", "--kind", "repair"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "wrote my_guess.py and test_my_guess.py",
        "to test it:",
        "    python -m pytest test_my_guess.py",
        "to run it:",
        "    python -m pytest --pyargs bench -p bench.plugin -p my_guess -k my_guess",
    ]
    assert "class MyGuess(Repair):" in (tmp_path / "my_guess.py").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_guess.py", "test_my_guess.py"]


def test_in_the_checkout_the_command_is_shorter():
    assert commands("defense", "mine", CHECKOUT)[1] == "python -m pytest bench -p mine -k mine"
    assert commands("model", "mine", CHECKOUT)[1] == "python -m pytest bench -p mine --model mine"
    assert commands("dataset", "mine", CHECKOUT)[1].endswith(" -p mine --dataset mine")


@pytest.mark.parametrize("kind", [*OTHERS, *DEFENSES])
@pytest.mark.parametrize("name", ["true", "_", "_1", "attack", "dataset", "nn", "a" * 60])
def test_every_accepted_name_gives_python(tmp_path, kind, name):
    defense = kind if kind in DEFENSES and kind != "model" else None
    for path in new("defense" if defense else kind, name, tmp_path, defense=defense):
        compile(path.read_text(), path, "exec")
    assert class_of(name).isidentifier()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attack", "My-Name"], "'My-Name' is no name for a plugin: lower-case letters, digits"),
        (["attack", "../x"], "'../x' is no name for a plugin: lower-case letters, digits"),
        (["attack", ""], "'' is no name for a plugin: lower-case letters, digits"),
        (["attack", "3d"], "'3d' is no name for a plugin: a module cannot begin with a digit"),
        (["attack", "class"], "'class' is no name for a plugin: it is a word of Python's own"),
        (["attack", "conftest"], "'conftest' is no name for a plugin: it means something else"),
        (["attack", "a" * 61], f"'{'a' * 61}' is no name for a plugin: more than 60 characters"),
        (["attack", "torch"], "'torch' is taken: Python finds a module or folder called so"),
        (["model", "bench"], "'bench' is taken: Python finds a module or folder called so"),
        (["model", "json"], "'json' is taken: Python finds a module or folder called so"),
        (["attack", "patch"], "'patch' is taken: attack 'patch' exists"),
        (["attack", "digits"], "'digits' is taken: data set 'digits' exists"),
        (["atack", "x"], "unknown kind of plugin 'atack' (did you mean attack or dataset?); known"),
        (["defense", "x", "--kind", "input"], "--kind: unknown kind of defense 'input' (did you"),
        (["model", "x", "--kind", "repair"], "--kind: 'repair': only a defense has a kind, not a"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["new", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
def test_an_existing_file_stays_and_the_other_is_not_written(tmp_path, there):
    (tmp_path / there).write_text("precious")
    with pytest.raises(BenchError, match=rf"^{tmp_path / there} exists; nothing was written$"):
        new("attack", "mine", tmp_path)
    assert (tmp_path / there).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failure_at_the_second_file_takes_back_the_first(tmp_path, monkeypatch):
    write = files.write

    def full(path, content):
        if path.name == "test_mine.py":
            raise BenchError(f"cannot write {path}: No space left on device")
        return write(path, content)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(BenchError, match="No space left"):
        new("attack", "mine", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_one_line():
    with pytest.raises(BenchError, match=r"^cannot write to /proc: .+$"):  # not for root either
        new("attack", "mine", Path("/proc"))


def test_a_missing_folder_is_one_line(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["new", "attack", "mine"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the current folder cannot be used: ")
    assert not gone.exists()


# The two conformance suites: the project's own pass, and each breach is one line.


def test_the_projects_own_data_set_and_model_conform():
    check_dataset("digits")
    check_model("simplecnn")
    check_model("simplecnn", hidden=16)


def noise(count, seed=0, classes=("a", "b")):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 8, 8, generator=generator)
    return ImageSet(images, torch.arange(count) % len(classes))


def unseeded(root):
    return RawData(ImageSet(torch.rand(80, 1, 8, 8), torch.arange(80) % 2), noise(20), ("a", "b"))


def leaking(root):
    train = noise(80)
    return RawData(train, train.take(torch.arange(20)), ("a", "b"))


def unnamed(root):
    return RawData(noise(80), noise(20, seed=1), ("a", ""))


def namesakes(root):
    return RawData(noise(80), noise(20, seed=1), ("a", "a"))


def lacking(root):
    return RawData(noise(80), noise(20, seed=1), ("a", "b", "c"))


def starved(root):
    return RawData(noise(4), noise(20, seed=1), ("a", "b"))


def unlike(root):
    test = noise(20, seed=1)
    return RawData(noise(80), ImageSet(test.images[..., :4], test.labels), ("a", "b"))


def bright(root):
    train = noise(80)
    return RawData(ImageSet(2 * train.images, train.labels), noise(20, seed=1), ("a", "b"))


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (unseeded, "is different when it is loaded again"),
        (leaking, "20 of 20 test images are training images too"),
        (unnamed, "classes must be a tuple of names"),
        (namesakes, "two classes are called 'a'"),
        (lacking, "class 'c' has no train image"),
        (starved, "class 'a' has no clean image"),
        (unlike, r"test images are \[1, 8, 4\], training images \[1, 8, 8\]"),
        (bright, r"pixels must lie in \[0, 1\]"),
    ],
)
def test_a_data_sets_breach_is_one_line_that_names_it(loader, message):
    with pytest.raises(BenchError, match=rf"^data set '{loader.__name__}'.*{message}.*$"):
        check_dataset(loader)


class Plain(nn.Module):
    """A network that conforms; those below break one thing each."""

    def __init__(self, shape, num_classes):
        super().__init__()
        self.head = nn.Linear(torch.Size(shape).numel(), num_classes)

    def forward(self, images):
        return self.head(images.flatten(1))


class Grey(Plain):
    def __init__(self, shape, num_classes):
        super().__init__((1, 28, 28), num_classes)


class Narrow(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, 3)


class Infinite(Plain):
    def forward(self, images):
        return super().forward(images) / 0


class Greedy(Plain):
    def forward(self, images):
        return super().forward(images - images.mean(0) * 3)


class Constant(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        with torch.no_grad():
            self.head.weight.copy_(
                torch.linspace(-1, 1, self.head.weight.numel()).view(num_classes, -1)
            )
            self.head.bias.zero_()


class Unseeded(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        with torch.no_grad():
            generator = torch.Generator()
            generator.seed()
            self.head.bias.normal_(generator=generator)


class Frozen(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.scale = nn.Parameter(torch.zeros(()))
        self.head.requires_grad_(False)

    def forward(self, images):
        return self.head(images.flatten(1)) + 0 * self.scale


class Forgetful(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.shift = float(torch.rand(()))

    def forward(self, images):
        return super().forward(images) + self.shift


class Restless(Plain):
    def forward(self, images):
        return super().forward(images + 0.1 * torch.rand_like(images))


class Meddling(Plain):
    def forward(self, images):
        return super().forward(images.mul_(0.5))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Grey, r"for images \[3, 32, 32\] of 10 classes: raised RuntimeError"),
        (Narrow, r"returned logits \[64, 3\], expected \[64, 10\]"),
        (Infinite, "returned NaN or infinite logits"),
        (Greedy, "answers differently for an image in another batch"),
        (Constant, "starts from the same weights whatever the seed"),
        (Unseeded, "ignores PyTorch's seed"),
        (Frozen, "is not changed by training"),
        (Forgetful, "answers differently after its state was stored and loaded"),
        (Restless, "answers differently when repeated"),
        (Meddling, "changed its input in place"),
    ],
)
def test_a_models_breach_is_one_line_that_names_it(model, message):
    check_model(Plain)
    with pytest.raises(PluginError, match=rf"^model '{model.__name__}'.*{message}.*$"):
        check_model(model)
