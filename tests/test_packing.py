"""Packing: whole or not there, resumed, shared, and never believed once altered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packs import contents, only, pack
from pictures import encoded, lay, picture, pixels, tree, zipped
from PIL import Image

from fixtures.errors import DataError
from fixtures.packing import files as packing_files
from fixtures.packing.worker import Order, answer


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


@pytest.fixture
def source(tmp_path) -> Path:
    return lay(tmp_path / "cats", tree())


def test_every_pixel_and_label_is_what_the_files_hold(source):
    found = pack(source)
    assert contents(found).numpy().tolist() == np.stack(list(pixels(tree()))).tolist()
    assert found.classes == ("cat", "dog")
    assert found.train.labels.tolist() == [0] * 6 + [1] * 6
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    assert found.converted == {}


@pytest.mark.parametrize("top", ["", "inner/"])
def test_a_zip_holds_the_same_as_a_folder(tmp_path, source, top):
    archive = {f"{top}{name}": content for name, content in tree().items()}
    zip_ = pack(zipped(tmp_path / "cats.zip", archive))
    assert torch.equal(contents(zip_), contents(pack(source)))
    assert zip_.fingerprint == pack(source).fingerprint
    assert not [*tmp_path.glob("**/train")][1:], "the zip was extracted"


def test_opening_again_reads_no_image_and_no_pixel(source, monkeypatch):
    first = pack(source)
    monkeypatch.setattr("fixtures.packing.packing.write", pytest.fail)
    monkeypatch.setattr("fixtures.packing.packing.Reader", pytest.fail)
    monkeypatch.setattr("fixtures.packing.opening.digest", pytest.fail)
    again = pack(source)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.train.labels, first.train.labels)


def test_the_fingerprint_is_of_pixels_labels_and_classes_not_of_files(tmp_path, source):
    same = lay(tmp_path / "again", {name.replace("00", "xx"): c for name, c in tree().items()})
    assert pack(same).fingerprint == pack(source).fingerprint
    for changed in (tree(seed=1), tree(classes=("cat", "eel")), tree(train=5)):
        other = lay(tmp_path / f"other {len(changed)} {hash(tuple(changed))}", changed)
        assert pack(other).fingerprint != pack(source).fingerprint


def test_a_file_that_was_written_since_is_packed_anew(source):
    before = pack(source)
    seen = contents(before).clone()
    replaced = encoded(picture(np.random.default_rng(9), 16), "PNG")
    (source / "train" / "cat" / "000.png").write_bytes(replaced)
    after = pack(source)
    assert after.fingerprint != before.fingerprint
    assert (contents(after) != seen).flatten(1).any(1).nonzero().flatten().tolist() == [0]
    assert torch.equal(contents(before), seen), "what is open already must not change"


def test_pixels_that_were_altered_are_named_set_aside_and_packed_anew(source, cached, caplog):
    before = contents(pack(source)).clone()
    path = only(cached, "pixels.bin")
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 255
    path.write_bytes(damaged)
    assert torch.equal(contents(pack(source)), before)
    assert caplog.messages == [
        f"data set 'cats': {path} was altered since it was packed; set aside, and packed anew"
    ]
    assert path.with_name("pixels.bin.damaged").read_bytes() == damaged


@pytest.mark.parametrize("name", ["pixels.bin", "index.safetensors"])
def test_a_file_that_was_cut_short_is_set_aside_too(source, cached, caplog, name):
    before = contents(pack(source)).clone()
    path = only(cached, name)
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(contents(pack(source)), before)
    assert [str(path) in message for message in caplog.messages] == [True]


def test_pixels_that_were_only_touched_are_kept(source, cached, caplog, monkeypatch):
    pack(source)
    os.utime(only(cached, "pixels.bin"))
    monkeypatch.setattr("fixtures.packing.packing.write", pytest.fail)
    pack(source)
    pack(source)
    assert caplog.messages == []


def test_what_is_half_written_counts_as_nothing(source, cached):
    whole = contents(pack(source)).clone()
    only(cached, "about.json").unlink()
    assert torch.equal(contents(pack(source)), whole)


def full_disk(*_) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_line_and_nothing_counts_as_packed(source, cached, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("os.posix_fallocate", full_disk)
        with pytest.raises(DataError, match=r"cannot be packed into .* \(No space left") as error:
            pack(source)
    assert "\n" not in str(error.value)
    assert not [*cached.glob("*/about.json")]
    assert len(pack(source).train) == 12


def test_a_disk_that_fills_up_meanwhile_is_one_line_too(source, cached, monkeypatch):
    failed = {"first": 0, "failed": "No space left on device"}
    with monkeypatch.context() as patched:
        patched.setattr("fixtures.packing.writing.answers", lambda *_: iter([failed]))
        with pytest.raises(DataError, match=r"cannot be packed into .* \(No space left on device"):
            pack(source)
    assert not [*cached.glob("*/about.json")]
    assert len(pack(source).train) == 12


def test_a_worker_that_cannot_write_says_why(source, tmp_path):
    (tmp_path / "read only").touch()
    target = os.open(tmp_path / "read only", os.O_RDONLY)
    order = Order(str(source), "", (3, 16, 16), None, False)
    found = packing_files.members(source)
    said = answer(order, packing_files.Reader(source), target, 0, found)
    os.close(target)
    assert said == {"first": 0, "failed": "Bad file descriptor"}


def test_the_processes_that_read_images_import_no_pytorch(checkout):
    program = "import sys, fixtures.packing.worker; print('torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_jpegs_that_are_stored_as_decoded_know_their_codec_and_resized_ones_do_not(tmp_path):
    random = np.random.default_rng(0)
    files = {
        f"{split}/{name}/{n}.jpg": encoded(picture(random, side), quality=80 + quality)
        for split in ("train", "test")
        for name in ("cat", "dog")
        for n, (side, quality) in enumerate([(32, 0), (48, 0), (32, 10)])
    }
    found = pack(lay(tmp_path / "jpegs", files), size=32)
    assert found.converted == {"resized": 4}
    changed = 1 - found.train.images
    handed = found.train.encoded(torch.arange(6), changed)
    moved = (handed != changed.mul(255).round().to(torch.uint8)).flatten(1).any(1)
    assert moved.tolist() == [True, False, True] * 2
    stored = found.train.bytes(torch.arange(6))
    assert torch.equal(found.train.encoded(torch.arange(6), found.train.images), stored)


def test_the_sidecar_says_what_was_packed_and_how(source, cached):
    pack(source, size=8)
    about = json.loads(only(cached, "about.json").read_bytes())
    assert about["shape"] == [3, 8, 8]
    assert (about["train"], about["test"]) == (12, 4)
    assert about["source"]["path"] == str(source)
    assert about["converted"] == {"resized": 16}


def test_the_middle_is_kept_or_the_whole_is_stretched(tmp_path):
    dark, light = np.zeros((8, 4, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)
    wide = encoded(Image.fromarray(np.concatenate([dark, light, dark], axis=1)), "PNG")
    names = [f"{split}/{name}/0.png" for split in ("train", "test") for name in ("cat", "dog")]
    folder = lay(tmp_path / "wide", dict.fromkeys(names, wide))
    middle, whole = (contents(pack(folder, size=8, stretch=s))[0] for s in (False, True))
    assert (middle == 200).all()
    assert whole[0, 0, [0, 3, 7]].tolist() == [0, 200, 0]


def test_a_link_that_leads_back_is_one_line(source):
    (source / "train" / "cat" / "loop").symlink_to(source / "train")
    with pytest.raises(DataError, match=f"over {packing_files.DEEPEST} folders deep"):
        pack(source)


def test_a_folder_that_may_not_be_read_is_one_line(source, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=f"'cats': {source} cannot be read .Permission denied"):
        pack(source)
