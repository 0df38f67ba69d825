"""Audits of networks that came from outside."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from outside import images_by_class, model_file
from pictures import encoded, zipped
from PIL import Image
from torch import nn

import bench as triggerbench
from bench import Cell
from bench.__main__ import main
from bench.analysis import odds, trust
from bench.analysis.odds import Counted, Usual
from bench.auditing.examine import Given, examine, found_by
from bench.auditing.fitting import fitted
from bench.auditing.opening import opened
from bench.auditing.preprocess import Preprocess, prepared
from bench.report.odds import markdown as tables_of_odds
from bench.store import collect
from bench.victims import victim
from fixtures.errors import BenchError, DataError
from fixtures.images import ImageSet
from fixtures.models import build_for
from fixtures.training import predict

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("FutureWarning", "DeprecationWarning", "UserWarning")
]

FORMS = ["safetensors", "pt", "ts", "pt2", "onnx"]
CLASSES = tuple("0123")


@pytest.fixture(scope="module")
def attacked(workspace):
    return victim(Cell("tiny", attack="pixel"), workspace)


@pytest.fixture(scope="module")
def clean(attacked):
    return attacked.dataset.test.take(torch.arange(120))


@pytest.fixture(scope="module")
def net(attacked):
    return attacked.model.eval().to(memory_format=torch.contiguous_format)


@pytest.fixture(scope="module")
def files(net, clean, tmp_path_factory):
    """The same network in every form."""
    folder = tmp_path_factory.mktemp("models")
    images = clean.batch(torch.arange(2))
    return {form: model_file(net, folder / f"net.{form}", images) for form in FORMS}


@pytest.fixture(scope="module")
def folder(clean, tmp_path_factory):
    """The clean images as files by class."""
    return images_by_class(clean, tmp_path_factory.mktemp("images"), CLASSES)


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Odds that somebody made up: clean models hardly score at all."""
    usual = "{ mean = 0.7, spread = 0.2, models = 60 }"
    own = "{ none = { called = 2, models = 80 }, pixel = { called = 19, models = 20 } }"
    text = '[[zoos]]\ndataset = "tiny"\nmodels = ["simplecnn"]\nshape = [1, 12, 12]\n'
    text += f"classes = 4\nrule = {own}\n"
    text += "auroc = { pixel = 0.97 }\n"
    for name in ("adversarial_labels", "mm_bd", "neural_cleanse"):
        text += f"\n[zoos.detectors.{name}]\nusual = {usual}\nown = {own}\n"
    (tmp_path / "odds.toml").write_text(text)
    monkeypatch.setattr(odds, "FILE", tmp_path / "odds.toml")


def arch_of(form):
    return "simplecnn" if form in ("safetensors", "pt") else ""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_network(form, files, net, clean):
    found = opened(files[form], arch_of(form), shape=clean.shape, classes=4)
    images = clean.batch(torch.arange(7))
    assert torch.allclose(found.net(images), net(images), atol=1e-4)
    images.requires_grad_()
    (slope,) = torch.autograd.grad(found.net(images).sum(), images)
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_off_is_one_line(form, files, clean, tmp_path):
    path = tmp_path / files[form].name
    path.write_bytes(files[form].read_bytes()[: files[form].stat().st_size // 2])
    with pytest.raises(
        BenchError, match=r"cut off or damaged|cannot be (loaded|converted)"
    ) as told:
        opened(path, arch_of(form), shape=clean.shape, classes=4)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


class Planted:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, clean):
    path, planted = tmp_path / "net.pt", tmp_path / "planted"
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "more": Planted(planted)}, path)
    with pytest.raises(BenchError, match=r"its pickle asks for .*, which was not run; save the"):
        opened(path, "simplecnn", shape=clean.shape, classes=4)
    assert not planted.exists()


def edited(source, path, edit):
    """A copy of an exported program whose parts, by name, ``edit`` has changed."""
    with zipfile.ZipFile(source) as archive:
        top = archive.namelist()[0].partition("/")[0]
        parts = {name[len(top) + 1 :]: archive.read(name) for name in archive.namelist()}
    edit(parts)
    with zipfile.ZipFile(path, "w") as copy:
        for name, content in parts.items():
            copy.writestr(f"{top}/{name}", content)
    return path


def pickled_inputs(parts, code):
    parts["data/sample_inputs/model.pt"] = pickle.dumps(code)


def pickled_part(parts, code):
    parts["data/constants/more"] = pickle.dumps(code)


def of_weights(change):
    def edit(parts, code):
        name = "data/weights/model_weights_config.json"
        found = json.loads(parts[name])
        first = next(iter(found["config"].values()))
        change(found["config"], first, code, parts)
        parts[name] = json.dumps(found).encode()

    return edit


def pickled_weight(config, first, code, parts):
    first["use_pickle"] = True
    parts["data/weights/weight_0"] = pickle.dumps(code)


def weight_called_json(config, first, code, parts):
    config["more"] = {**first, "path_name": "weight_9.json", "use_pickle": True}
    parts["data/weights/weight_9.json"] = pickle.dumps(code)


def weight_once_more(config, first, code, parts):
    config["more"] = {**first, "use_pickle": True}


def weight_with_a_quote(config, first, code, parts):
    config['a"]; print(1) #'] = first


def of_program(change):
    def edit(parts, code):
        found = json.loads(parts["models/model.json"])
        change(found, f"__import__('pathlib').Path({str(code.path)!r}).touch()")
        parts["models/model.json"] = json.dumps(found).encode()

    return edit


def node(program):
    return program["graph_module"]["graph"]["nodes"][0]


def size(program, text):
    tensors = program["graph_module"]["graph"]["tensor_values"]
    tensors["images"]["sizes"][0]["as_expr"]["expr_str"] = text


REFUSED = {
    "pickled inputs": (pickled_inputs, "data/sample_inputs/model.pt would have to be unpickled"),
    "another part": (pickled_part, "data/constants/more is none that a program of tensors has"),
    "a pickled weight": (of_weights(pickled_weight), "would have to be unpickled"),
    "a weight called json": (of_weights(weight_called_json), "would have to be unpickled|is none"),
    "a weight once more": (of_weights(weight_once_more), "would have to be unpickled"),
    "a name with code": (of_weights(weight_with_a_quote), "is no name of a tensor"),
    "a size": (of_program(size), "is no plain expression"),
    "an operator": (
        of_program(lambda program, _: node(program).update(target="os.system")),
        "its operator os.system is not known to be harmless",
    ),
    "a file": (
        of_program(lambda p, _: node(p).update(target="torch.ops.aten.from_file.default")),
        "its operator torch.ops.aten.from_file.default is not known",
    ),
    "a name in the graph": (
        of_program(lambda program, code: node(program).update(name=f"x={code}")),
        "is no name of a tensor",
    ),
    "a packing": (
        of_program(
            lambda program, _: program["graph_module"]["module_call_graph"][0]["signature"].update(
                in_spec='[1, {"type": "a.b", "context": null, "children_spec": []}]'
            )
        ),
        "its inputs or outputs are packed in a.b",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_program_that_could_run_code_is_refused_and_not_run(what, files, tmp_path, clean):
    edit, says = REFUSED[what]
    planted = tmp_path / "planted"
    path = edited(files["pt2"], tmp_path / "net.pt2", lambda parts: edit(parts, Planted(planted)))
    with pytest.raises(BenchError, match=says):
        opened(path, shape=clean.shape, classes=4)
    assert not planted.exists()


def test_guards_of_a_program_are_not_run(files, tmp_path, net, clean):
    planted = tmp_path / "planted"
    edit = of_program(lambda program, code: program.update(guards_code=[code]))
    path = edited(files["pt2"], tmp_path / "net.pt2", lambda parts: edit(parts, Planted(planted)))
    images = clean.batch(torch.arange(3))
    found = opened(path, shape=clean.shape, classes=4).net
    assert torch.allclose(found(images), net(images), atol=1e-4)
    assert not planted.exists()


def test_torchscript_that_writes_a_file_is_refused_and_not_run(tmp_path, clean):
    class Writes(nn.Module):
        def __init__(self, path: str):
            super().__init__()
            self.path = path

        def forward(self, images):
            written = torch.from_file(self.path, True, 4, dtype=torch.uint8).fill_(65)
            return images.flatten(1)[:, :4] + written

    victim_file = tmp_path / "mine"
    victim_file.write_bytes(b"mine")
    torch.jit.save(torch.jit.script(Writes(str(victim_file))), str(tmp_path / "net.ts"))
    with pytest.raises(BenchError, match=r"its code says 'from_file' .* which may read"):
        opened(tmp_path / "net.ts", shape=clean.shape, classes=4)
    assert victim_file.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arch", "says"),
    [
        ("", "it holds weights alone; say whose: --arch timm:NAME"),
        ("vit", r"its weights are not of vit: .* is missing, .*, and \d+ more"),
        ("simplecnn+hidden=64", r"hidden.weight is \[128, 576\], not \[64, 576\]"),
        ("nowhere:net", "--arch nowhere:net: ModuleNotFoundError"),
        ("torch:rand", "--arch torch:rand: TypeError"),
        ("collections:OrderedDict", "makes no nn.Module but a OrderedDict"),
    ],
)
def test_an_architecture_that_does_not_fit_is_one_line(arch, says, files, clean):
    with pytest.raises(BenchError, match=says):
        opened(files["safetensors"], arch, shape=clean.shape, classes=4)


def test_a_graph_needs_no_architecture(files, clean):
    with pytest.raises(BenchError, match="it is a TorchScript archive, which is whole without"):
        opened(files["ts"], "simplecnn", shape=clean.shape, classes=4)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_model_is_one_line(content, tmp_path, clean):
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(BenchError, match=r"it is no safetensors file|none of PyTorch"):
        opened(tmp_path / "net", shape=clean.shape, classes=4)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda logits: {"logits": logits}, "answers a dict of logits, no logits"),
        (lambda logits: (logits,), "answers a tuple, no logits"),
        (lambda logits: logits[:, :3], r"answers \[3\] for each image; the data has 4 classes"),
        (lambda logits: logits * torch.nan, "answers NaN or infinity for 120 of 120 images"),
    ],
)
def test_a_network_that_gives_no_logits_is_one_line(answer, says, net, clean):
    class Other(nn.Module):
        def forward(self, images):
            return answer(net(images))

    with pytest.raises(BenchError, match=says):
        fitted(Other(), clean, CLASSES, None)


def test_images_that_a_network_does_not_take_are_one_line(net, clean):
    colour = ImageSet(clean.images.repeat(1, 3, 1, 1), clean.labels)
    with pytest.raises(BenchError, match=r"does not take images \[3, 12, 12\]: RuntimeError"):
        fitted(net, colour, CLASSES, None)


@pytest.mark.parametrize("how", [Preprocess("", (0.5,), (0.5,)), Preprocess("", scale=255.0)])
def test_the_preprocessing_is_found_by_what_the_network_gets_right(how, net, clean):
    class Wants(nn.Module):
        def forward(self, images):
            return net((images * torch.tensor(how.std) + torch.tensor(how.mean)) / how.scale)

    fit = fitted(Wants(), clean, CLASSES, None)
    assert (fit.how.mean, fit.how.std, fit.how.scale) == (how.mean, how.std, how.scale)
    assert fit.guessed
    assert fit.accuracy > 0.95
    given = fitted(Wants(), clean, CLASSES, how)
    assert not given.guessed


def test_classes_in_another_order_are_told(net, clean):
    turned = clean.labelled((clean.labels + 1) % 4)
    with pytest.raises(BenchError, match="stand in another order: 0 is output 3, 1 is output 0"):
        fitted(net, turned, CLASSES, None)


def test_data_of_something_else_is_told(net, clean):
    noise = ImageSet(torch.rand(120, 1, 12, 12), clean.labels)
    with pytest.raises(BenchError, match="data or preprocessing are not the model's"):
        fitted(net, noise, CLASSES, None)


def test_the_backdoor_is_found_and_its_target_named(attacked, net, clean):
    found = found_by("neural_cleanse", Given(net, clean, CLASSES))
    assert found.backdoored
    assert attacked.attack.target in found.suspects
    assert len(found.mask[0]) == 12


def test_an_audit_of_a_live_network_leaves_its_weights_and_names_its_target(
    attacked, net, clean, known
):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    live = copy.deepcopy(net).train().requires_grad_()
    found = triggerbench.audit(live, clean.images, clean.labels)
    assert live.training
    assert all(parameter.requires_grad for parameter in live.parameters())
    assert found.backdoored
    accused = {label for one in found.findings for label in one.suspects}
    assert attacked.attack.target in accused
    assert found.exit_code == 1
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert {one.detector for one in found.findings} >= {"neural_cleanse", "mm_bd"}
    assert set(found.judgement.by_detector) == {one.detector for one in found.findings}


def test_an_audit_that_was_interrupted_goes_on(net, clean, tmp_path, monkeypatch):
    given, told = Given(net, clean, CLASSES), []
    first = examine(given, tmp_path)
    last = sorted(tmp_path.glob("*neural_cleanse*"))
    assert len(last) == 1
    last[0].write_text("{ damaged")
    again = examine(given, tmp_path, told.append)
    assert [one.detector for one in again] == [one.detector for one in first]
    assert [line.split(",")[0] for line in told] == ["3 of 3: neural_cleanse"]


def test_another_network_or_other_images_are_examined_anew(net, clean, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.auditing.examine.detectors", lambda _given: ["adversarial_labels"])
    for given in (
        Given(net, clean, CLASSES),
        Given(net, clean.take(torch.arange(60)), CLASSES),
        Given(prepared(net, Preprocess("", (0.01,))), clean, CLASSES),
    ):
        examine(given, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_a_graph_without_gradients_is_said_to_have_none(net, clean):
    class Rounded(nn.Module):
        def forward(self, images):
            return net(images.detach()).detach()

    found = found_by("mm_bd", Given(Rounded(), clean, CLASSES))
    assert (found.backdoored, found.reason) == (None, "the graph gives no gradients")


def test_too_few_classes_rule_detectors_out(net, clean):
    two = clean.take(clean.labels < 2)

    class Two(nn.Module):
        def forward(self, images):
            return net(images)[:, :2]

    found = found_by("mm_bd", Given(Two(), two, CLASSES[:2]))
    assert found.reason == "2 classes are too few to compare one with the others"


def test_a_training_set_is_looked_at_where_there_is_one(attacked, net, clean):
    given = Given(net, clean, CLASSES, suspect=attacked.suspect)
    found = found_by("activation_clustering", given)
    assert found.flavour == "samples"
    assert found.backdoored is None
    assert f"of {len(attacked.suspect)} training samples are flagged" in found.says


def test_traffic_is_screened_where_there_is_some(attacked, net, clean):
    given = Given(net, clean, CLASSES, inputs=attacked.triggered())
    found = found_by("strip", given)
    assert found.flavour == "inputs"
    assert found.backdoored
    assert "inputs are refused" in found.says
    other = found_by("strip", Given(net, clean, CLASSES, inputs=attacked.dataset.test))
    assert other.backdoored is False


def run(*arguments):
    return main(["audit", *map(str, arguments)])


def test_the_command_says_what_it_found(files, folder, known, capsys):
    code = run(files["safetensors"], "--data", folder, "--arch", "simplecnn")
    told = capsys.readouterr()
    assert code == 1
    assert told.out.startswith("# net.safetensors: backdoored\n")
    assert "2 of 80, 2 % (1 to 9) clean ones backdoored" in told.out
    assert "as they are, in [0, 1], guessed from the images" in told.out


def test_only_the_detectors_that_are_named_are_asked(files, folder, known, capsys):
    arguments = ("--data", folder, "--arch", "simplecnn", "--detectors", "mm_bd")
    assert run(files["safetensors"], *arguments) in (0, 1)
    told = capsys.readouterr().out
    assert "Without adversarial_labels, neural_cleanse: what the rule is worth was" in told
    assert "| mm_bd |" in told
    assert "| neural_cleanse |" not in told


def test_a_detector_that_takes_longer_than_the_limit_could_not_judge(net, clean):
    found = found_by("mm_bd", Given(net, clean, CLASSES, limit=0.01))
    assert found.backdoored is None
    assert found.reason == "it took longer than 0.01 s"


def test_the_command_writes_every_format(files, folder, known, tmp_path, capsys):
    forms = "md,html,json,sarif,junit"
    run(files["ts"], "--data", folder, "--format", forms, "--report", tmp_path / "out")
    found = json.loads((tmp_path / "out/audit.json").read_text())
    assert found["verdict"] == "backdoored"
    by_name = {one["name"]: one for one in found["detectors"]}
    sarif = json.loads((tmp_path / "out/audit.sarif").read_text())
    assert sarif["version"] == "2.1.0"
    results = sarif["runs"][0]["results"]
    assert results[0]["ruleId"] == "backdoored-model"
    assert results[0]["level"] == "error"
    rules = {rule["id"] for rule in sarif["runs"][0]["tool"]["driver"]["rules"]}
    assert {one["ruleId"] for one in results} <= rules
    suite = ElementTree.parse(tmp_path / "out/audit.xml").getroot()
    assert int(suite.get("tests")) == 1 + len(by_name)
    assert suite.find("testcase[@name='verdict']/failure") is not None
    assert "data:image/png;base64," in (tmp_path / "out/audit.html").read_text()
    assert (tmp_path / "out/recovered-neural_cleanse.png").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_repaired_model_comes_in_the_form_it_came_in(
    form, files, folder, known, clean, tmp_path, capsys
):
    out = tmp_path / f"mended.{form}"
    arch = ("--arch", arch_of(form)) if arch_of(form) else ()
    run(files[form], "--data", folder, *arch, "--repair", "fine_tuning", "--out", out)
    assert "cannot be known without its trigger" in capsys.readouterr().err
    mended = opened(out, arch_of(form), shape=clean.shape, classes=4).net
    before = opened(files[form], arch_of(form), shape=clean.shape, classes=4).net
    images = clean.batch(torch.arange(50))
    assert not torch.allclose(mended(images), before(images), atol=1e-3)
    assert float((predict(mended, clean).argmax(1) == clean.labels).float().mean()) > 0.9


def test_a_live_network_is_repaired_in_a_copy(net, clean):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = triggerbench.repair(net, clean, defense="fine_pruning")
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert type(found.net) is type(net)
    assert any(not torch.equal(before[n], value) for n, value in found.net.state_dict().items())
    assert found.before > 0.95
    assert found.after > 0.9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "pdf"], "--format: pdf; known: md, html, json, sarif, junit"),
        (["--format", "md,json"], "--format: 2 of them need --report DIR"),
        (["--repair", "nad"], "--repair NAME and --out FILE go together"),
        (["--preprocess", "mean"], "--preprocess: 'mean' is not NAME=NUMBER,NUMBER"),
        (["--preprocess", "mode=1"], "--preprocess: unknown mode; known: mean, std, scale"),
        (["--preprocess", "std=0"], "std has no zero"),
        (["--preprocess", "mean=.1,.2,.3"], "for another number of channels than the images' 1"),
        (["--classes", "0,1,2"], "--classes: they are not the folders of --data: 3"),
        (["--classes", "1,0,2,3"], "stand in another order: 1 is output 1, 0 is output 0; give"),
        (["--repair", "strip", "--out", "x"], "--repair: strip is no repair; known: "),
        (["--repair", "nac", "--out", "x"], "defense 'nac'"),
        (["--suspect", "nowhere"], "nowhere does not exist"),
        (["--detectors", "mm_db"], "--detectors: mm_db cannot be asked here; these can: "),
        (["--detectors", "strip"], "--detectors: strip cannot be asked here"),
        (["--limit", "soon"], "--limit: 'soon' is not a number of seconds like 90"),
        (["--device", "abacus"], "device 'abacus' cannot be used here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments, says, files, folder, known, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(files["safetensors"], "--data", folder, "--arch", "simplecnn", *arguments) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert says in line
    assert not (tmp_path / "x").exists()


def test_without_odds_there_is_no_verdict(files, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(odds, "FILE", tmp_path / "odds.toml")
    assert run(files["safetensors"], "--data", folder, "--arch", "simplecnn") == 2
    assert "nothing is known of the detectors' errors" in capsys.readouterr().err


def folders(top, *names):
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 12)).save(top / name)
    return top


def test_images_by_class_need_no_splits_and_of_splits_the_held_out_one_is_clean(tmp_path):
    from bench.auditing.images import clean, suspect, traffic

    plain = folders(tmp_path / "plain", "a/1.png", "a/2.png", "b/1.png")
    assert (len(clean(plain).images), clean(plain).classes) == (3, ("a", "b"))
    split = folders(tmp_path / "split", "train/a/1.png", "train/b/1.png", "train/b/2.png")
    folders(split, "val/a/1.png", "val/b/1.png")
    assert len(clean(split).images) == 2
    assert len(suspect(split, ("a", "b"))) == 3
    assert len(traffic(split)) == 5
    with pytest.raises(DataError, match="its classes are not those of the clean images"):
        suspect(plain, ("a", "c"))
    with pytest.raises(DataError, match="one class only, 'a'; two classes are needed"):
        clean(folders(tmp_path / "one", "a/1.png"))
    with pytest.raises(DataError, match="lies in no folder named by its class"):
        clean(folders(tmp_path / "flat", "1.png"))


def test_the_archive_of_a_folder_is_read_as_the_folder(tmp_path):
    from bench.auditing.images import clean, traffic

    image = encoded(Image.new("L", (12, 12)), "PNG")
    names = ("pictures/a/1.png", "pictures/b/1.png", "pictures/b/2.png")
    archive = zipped(tmp_path / "pictures.zip", dict.fromkeys(names, image))
    assert (len(clean(archive).images), clean(archive).classes) == (3, ("a", "b"))
    assert len(traffic(archive)) == 3  # of the same file, kept beside the other
    assert clean(archive).classes == ("a", "b")


def test_a_class_with_too_few_images_is_told(net, clean):
    few = clean.take((clean.labels != 3) | (torch.arange(len(clean)) < 5))
    alone = few.take(torch.cat([(few.labels != 3).nonzero().flatten(), torch.tensor([3])]))
    labels = alone.labels.clone()
    labels[-1] = 3
    with pytest.raises(BenchError, match="1 of 4 classes have fewer than 2 clean images: 3"):
        triggerbench.audit(net, alone.labelled(labels))


def test_what_is_known_of_errors_is_a_table_of_clean_models_and_attacks(known):
    text = tables_of_odds()
    assert "60 clean models say what is usual" in text
    assert "calls 19 of 20, 95 % (76 to 99) backdoored, of clean ones 2 of 80, 2 % (1 to 9)" in text
    clean, pixel = text.splitlines()[-2:]
    assert clean.startswith("| clean | 2 of 80")
    assert pixel.startswith("| pixel | 19 of 20, 95 % (76 to 99) | 0.97 | 19 of 20")


def test_where_no_zoo_is_measured_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(odds, "FILE", tmp_path / "odds.toml")
    assert tables_of_odds() == "No zoo is measured yet."


def test_the_chance_of_a_score_is_that_of_one_more_clean_model():
    """Drawn from what it assumes, a twentieth of new models has a chance below a twentieth."""
    generator = torch.Generator().manual_seed(0)
    below = 0
    for _ in range(2000):
        logs = 1 + 0.3 * torch.randn(11, generator=generator, dtype=torch.double)
        usual = odds.usual_of(logs[:10].expm1().tolist())
        below += usual.chance(float(logs[10].expm1())) < 0.05
    assert 0.03 < below / 2000 < 0.07


def test_the_rule_takes_the_smallest_chance_times_the_detectors_that_judged():
    usual = {"a": Usual(1.0, 0.2, 60), "b": Usual(1.0, 0.2, 60)}
    found = odds.judged({"a": 3.0, "b": 1.0, "c": 99.0}, usual)
    assert set(found.by_detector) == {"a", "b"}
    assert 0.025 < found.by_detector["a"] < 0.05
    assert found.chance == pytest.approx(2 * found.by_detector["a"])
    assert not found.backdoored
    assert odds.judged({"a": 3.0}, usual).backdoored
    assert not odds.judged({"a": 1.0, "b": 1.0}, usual).backdoored
    assert odds.judged({"a": None}, usual).backdoored is None


def test_odds_are_made_of_records_and_read_back(make_record, tmp_path, monkeypatch):
    scores = torch.rand(80, generator=torch.Generator().manual_seed(0)).tolist()
    found = []
    for seed, score in enumerate(scores):
        of = {"seed": seed, "dataset": "tiny", "suspicion": score, "verdict_correct": 1.0}
        found.append(make_record("none", "mm_bd", **of))
        if seed >= odds.LEARNT_FROM:
            found.append(make_record("pixel", "mm_bd", **{**of, "suspicion": 50 + score}))
            found.append(make_record("blur", "mm_bd", **{**of, "verdict_correct": 0.0}))
    zoo = odds.measured(found, (1, 12, 12), 4, "tiny")
    assert zoo.detectors["mm_bd"].usual.models == 60
    assert zoo.rule["none"].models == 20
    assert zoo.rule["none"].called <= 4
    assert zoo.rule["pixel"] == Counted(20, 20)
    assert zoo.rule["blur"].called == zoo.rule["none"].called
    assert zoo.detectors["mm_bd"].own["blur"] == Counted(0, 20)
    assert zoo.auroc["pixel"] == 1.0
    assert zoo.auroc["blur"] == pytest.approx(0.5)
    (tmp_path / "odds.toml").write_text(odds.written([zoo], "python -m bench odds results"))
    monkeypatch.setattr(odds, "FILE", tmp_path / "odds.toml")
    (again,) = odds.zoos()
    assert again.rule == zoo.rule
    assert odds.nearest((3, 12, 12), [again]) is again
    assert trust.blind_to(zoo.rule) == ["blur"]
    assert trust.share(Counted(2, 80)) == "2 of 80, 2 % (1 to 9)"


@pytest.mark.parametrize("opset", [17, 20, None], ids=["opset 17", "opset 20", "newest"])
@pytest.mark.parametrize("name", ["preact_resnet18", "vit"])
def test_graphs_of_both_exporters_are_read(name, opset, tmp_path):
    net = build_for(name, (3, 16, 16), 10, **({"width": 4} if "res" in name else {})).eval()
    images = torch.rand(2, 3, 16, 16)
    if opset is None:
        how = {"dynamo": True, "dynamic_shapes": ({0: "batch"},), "verbose": False}
    else:
        axes = {"images": {0: "batch"}}
        how = {"dynamo": False, "input_names": ["images"], "dynamic_axes": axes}
        how["opset_version"] = opset
    torch.onnx.export(net, (images,), str(tmp_path / "net.onnx"), **how)
    found = opened(tmp_path / "net.onnx", shape=(3, 16, 16), classes=10).net
    more = torch.rand(5, 3, 16, 16)
    assert torch.allclose(found(more), net(more), atol=1e-4)


def test_an_unknown_operator_is_named(tmp_path, clean):
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    node = helper.make_node("Conjure", ["x"], ["y"], domain="of.somebody")
    graph = helper.make_graph([node], "net", ends[:1], ends[1:])
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("of.somebody", 1)]
    save(helper.make_model(graph, opset_imports=versions), tmp_path / "net.onnx")
    with pytest.raises(BenchError, match=r"cannot be converted \(.*Conjure"):
        opened(tmp_path / "net.onnx", shape=clean.shape, classes=4)


def of_clean(make_record, count, score=lambda seed: 1.0):
    return [
        make_record(
            *("none", "mm_bd", seed),
            dataset="tiny",
            verdict_correct=1.0,
            suspicion=score(seed),
        )
        for seed in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "says"),
    [(9, "mm_bd: 9 clean models of seeds below 60; 10 are"), (60, "no clean model of a seed from")],
)
def test_too_few_clean_models_make_no_odds(count, says, make_record):
    with pytest.raises(BenchError, match=says):
        odds.measured(of_clean(make_record, count), (1, 12, 12), 4, "tiny")


def test_a_model_that_is_there_twice_is_told(make_record):
    with pytest.raises(BenchError, match="tiny-simplecnn-none-mm_bd-s0 is there twice"):
        odds.measured(2 * of_clean(make_record, 70), (1, 12, 12), 4, "tiny")


def test_models_that_all_score_alike_have_a_chance_all_the_same(make_record):
    zoo = odds.measured(of_clean(make_record, 70), (1, 12, 12), 4, "tiny")
    usual = zoo.detectors["mm_bd"].usual
    assert usual.chance(1.0) == pytest.approx(0.5)
    assert usual.chance(2.0) < 1e-6


def test_more_classes_make_a_high_score_likelier():
    usual = {"a": Usual(1.0, 0.2, 60)}
    ten, hundred = (odds.judged({"a": 3.0}, usual, times) for times in (1, 10))
    assert hundred.chance == pytest.approx(1 - (1 - ten.chance) ** 10)
    assert ten.backdoored
    assert not hundred.backdoored


def test_the_command_makes_odds_of_records_and_leaves_them_where_there_are_none(
    make_record, tmp_path, monkeypatch
):
    monkeypatch.setattr(odds, "FILE", tmp_path / "odds.toml")
    found = of_clean(make_record, 70, lambda seed: 1.0 + seed % 3)
    (tmp_path / "in").mkdir()
    collect.write(found, tmp_path / "in/records.jsonl")
    assert main(["odds", str(tmp_path / "in")]) == 0
    (zoo,) = odds.zoos()
    assert (zoo.dataset, zoo.classes, zoo.shape) == ("tiny", 4, (1, 12, 12))
    (tmp_path / "none").mkdir()
    before = odds.FILE.read_text()
    assert main(["odds", str(tmp_path / "none")]) == 2
    assert main(["odds", str(tmp_path / "in"), "--to", str(tmp_path / "own.toml")]) == 0
    assert odds.FILE.read_text() == before
    assert odds.zoos(tmp_path / "own.toml") == odds.zoos()
