"""Defenses that cheat gain nothing: they score like chance, or an error names what they did."""

from __future__ import annotations

import importlib
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encoded, picture
from PIL import Image
from traces import HIDDEN_BY, times_in_memory

from bench import Cell, run
from bench.judge.mixed import every
from bench.victims import victim
from defenses import DEFENSES
from fixtures.errors import PluginError
from fixtures.jpeg import codec_of

CIFAR10 = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10-jpeg.zip"


@pytest.fixture(scope="module", autouse=True)
def cheats():
    with DEFENSES.temporary():
        sys.modules.pop("cheats", None)
        yield importlib.import_module("cheats")


@pytest.fixture
def attacked(workspace):
    return victim(Cell("tiny", attack="pixel"), workspace)


def cell(name, attack="pixel", **params):
    return Cell("tiny", attack=attack, defense=name, defense_params=params)


def complaint(cell, workspace):
    with pytest.raises(PluginError) as error:
        run(cell, workspace)
    message = str(error.value)
    assert message.startswith(f"defense {cell.defense!r}: ")
    assert "\n" not in message
    return message


def test_the_published_data_set_cannot_be_loaded(workspace):
    assert "imports fixtures.datasets, which a defender has not" in complaint(
        cell("asks_for_it"), workspace
    )


def test_nor_can_a_library_load_it(workspace):
    message = complaint(cell("asks_a_library"), workspace)
    assert "sklearn/datasets/data" in message
    assert message.endswith("the published data set, which a defender has not")


@pytest.mark.parametrize("name", ["reads", "reads_quietly"])
def test_the_files_of_the_data_set_cannot_be_read_by_path(name, workspace, tmp_path):
    images = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    images.parent.mkdir(parents=True)
    images.write_bytes(bytes(100))
    at = replace(workspace, data=tmp_path)
    assert complaint(cell(name, path=str(images)), at) == (
        f"defense {name!r}: reads {images}, the published data set, which a defender has not"
    )


def test_the_cache_with_its_victims_cannot_be_read(workspace, attacked):
    path = attacked.path.resolve()
    message = complaint(cell("reads", path=str(path)), workspace)
    assert message.endswith("which a defender has not") or message.endswith("is not its own")
    assert str(path) in message
    listed = complaint(cell("reads", path=str(path.parent), how="list"), workspace)
    assert str(path.parent) in listed


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is of Linux")
@pytest.mark.parametrize("how", ["compiled", "safetensors"])
def test_nor_by_compiled_code_that_no_audit_event_tells_of(how, workspace, attacked):
    path = str(attacked.path)
    assert Path(path).exists()
    message = complaint(cell("reads", path=path, how=how), workspace)
    assert "ermission denied" in message or "No such file" in message


def test_another_processs_memory_cannot_be_read(workspace):
    message = complaint(cell("reads", path="/proc/{parent}/mem"), workspace)
    assert message.endswith("which is not its own")


def test_no_object_in_its_process_tells_which_samples_are_poison(workspace):
    found = run(cell("searches_objects"), workspace).metrics
    assert found["auroc"] == pytest.approx(0.5, abs=0.02)
    assert found["f1"] < 0.3


def test_neither_roles_nor_triggers_nor_test_images_lie_in_its_memory(workspace):
    attacked = victim(Cell("tiny", attack="noise"), workspace)
    test = attacked.dataset.test
    some = torch.arange(3)
    secrets = {
        "roles": attacked.roles.numpy().tobytes(),
        "a triggered image": attacked.triggered().bytes(some)[0].numpy().tobytes(),
        "a test image": test.bytes(some)[0].numpy().tobytes(),
        "the poison's pixels": attacked.poison.pixels[:2].numpy().tobytes(),
        "a suspect image": attacked.suspect.bytes(some)[0].numpy().tobytes(),
    }
    turned = {
        name: (np.frombuffer(secret, dtype=np.uint8) ^ HIDDEN_BY).tobytes()
        for name, secret in secrets.items()
    }
    assert all(times_in_memory(one) for one in turned.values())  # here they all are
    found = {
        name: run(cell("searches_memory", attack="noise", turned=one.hex()), workspace).details[
            "report"
        ]["found"]
        for name, one in turned.items()
    }
    assert found.pop("a suspect image")  # the search does find what was handed over
    assert set(found.values()) == {0}


def test_pairing_inputs_with_their_twins_tells_nothing(workspace):
    for attack in ("pixel", "noise"):
        message = complaint(cell("pairs_twins", attack), workspace)
        assert "with what else is in its batch" in message  # what it remembers is company, too


def test_what_the_attacker_drew_cannot_be_drawn_again(workspace):
    found = run(cell("repeats_the_draw"), workspace)
    assert found.details["report"]["known"] == []
    assert found.metrics["auroc"] < 0.75


def test_nothing_is_left_for_the_next_cell(workspace):
    message = complaint(cell("keeps_for_later"), workspace)
    assert "only temporary files may be written" in message
    assert not Path("/dev/shm/triggerbench-test-left").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is sealed on Linux alone")
def test_the_images_that_it_is_handed_cannot_be_changed(workspace, attacked):
    before = attacked.suspect.images
    with suppress(PluginError):
        assert run(cell("rewrites_the_images"), workspace).details["report"]["written"] == 0
    assert torch.equal(attacked.suspect.images, before)


@pytest.mark.parametrize("name", ["stands_out", "remembers_scores"])
def test_a_score_that_depends_on_the_batch_is_an_error(name, workspace):
    message = complaint(cell(name), workspace)
    assert "with what else is in its batch" in message


def test_a_threshold_is_what_it_was_when_calibration_ended(workspace):
    found = run(cell("after_the_fact"), workspace).metrics
    assert (found["tpr"], found["fpr"], found["aimed_fpr"]) == (0, 0, 0.05)


def test_a_repair_that_expects_an_order_repairs_nothing(workspace):
    found = run(cell("by_order"), workspace).metrics
    assert found["asr_before"] > 0.9
    assert found["der"] < 0.62  # as much accuracy is lost as backdoor


def test_the_order_is_not_to_be_known_without_the_trigger(attacked, workspace):
    everything = torch.arange(len(attacked.dataset.test))
    other = victim(Cell("tiny", attack="noise"), workspace)
    orders = [every(one, everything).order[:50] for one in (attacked, other)]
    assert not torch.equal(*orders)


def test_answers_that_follow_the_company_are_measured_as_such(workspace):
    found = run(cell("by_company"), workspace).metrics
    assert found["company"] > 0.01
    honest = run(cell("fine_tuning", min_steps=5, epochs=1), workspace)
    assert "company" not in honest.metrics  # a plain network, measured here


def generated() -> dict[str, list[bytes]]:
    """Class -> JPEG files made here."""
    random = np.random.default_rng(0)
    return {name: [encoded(picture(random), quality=90) for _ in range(260)] for name in "abc"}


def real() -> dict[str, list[bytes]]:
    """Class -> JPEG files of CIFAR-10."""
    found: dict[str, list[bytes]] = {}
    with zipfile.ZipFile(CIFAR10) as archive:
        for name in sorted(n for n in archive.namelist() if "/test/" in n and n.endswith("jpg")):
            files = found.setdefault(name.split("/")[-2], [])
            if len(found) <= 3 and len(files) < 260:
                files.append(archive.read(name))
    return {name: files for name, files in found.items() if files}


SOURCES = {"generated": generated, **({"CIFAR-10 (JPEG)": real} if CIFAR10.exists() else {})}


@pytest.mark.parametrize("files", SOURCES.values(), ids=SOURCES.keys())
def test_the_lattice_of_jpeg_files_tells_nothing(files, workspace, tmp_path):
    folder = tmp_path / "images"
    for kind, contents in files().items():
        for at, content in enumerate(contents):
            path = folder / ("train" if at < 200 else "test") / kind / f"{at}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    codec = codec_of(Image.open(BytesIO(content)))
    quick = Cell(
        "folder",
        attack="noise",
        # All to all: which classes are poisoned tells nothing either.
        attack_params={"poison_rate": 0.3, "mapping": "all2all"},
        dataset_params={"path": str(folder), "size": 32, "name": "jpeg"},
        recipe="adamw",
        recipe_params={"epochs": 1, "min_steps": 5},
        defense="off_the_lattice",
        defense_params={"table": list(codec.tables[0])},
    )
    found = run(quick, workspace).metrics
    assert 0.4 < found["auroc"] < 0.6
