"""README and docs hold together: links lead somewhere, what they name exists, examples run."""

from __future__ import annotations

import fnmatch
import importlib
import io
import re
import runpy
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from attacks import ATTACKS
from bench import Cell, run
from bench.__main__ import main
from bench.analysis.proposals import proposals
from bench.analysis.series import measured
from bench.checks import check_attack, check_dataset, check_defense, check_model
from bench.expected import gate_files
from bench.harness import selection
from bench.plugin import pytest_addoption
from bench.report import pages
from bench.report.gates import toml
from bench.runtime import files
from bench.spec import suites
from bench.store import records
from defenses import DEFENSES
from fixtures.datasets import DATASETS
from fixtures.models import MODELS

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = sorted((CHECKOUT / "docs").glob("*.md"))
PAGES = [CHECKOUT / "README.md", *DOCS]
TEXTS = {page: page.read_text() for page in PAGES}
EVERYTHING = "\n".join(TEXTS.values())
EXAMPLES = dict(
    re.findall(r"<!-- example: (\w+\.\w+) -->\n```\w+\n(.*?)```", EVERYTHING, re.DOTALL)
)

of_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def links(text):
    """Path and anchor of every link and picture that stays in the checkout."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [link.partition("#")[::2] for link in found if "://" not in link]


def anchors(text):
    """What a heading can be linked by, as GitHub makes it."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of_every_page
def test_every_link_and_anchor_leads_somewhere(page):
    for path, anchor in links(TEXTS[page]):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target.read_text()), f"{path}#{anchor}"


def test_every_page_can_be_reached_from_the_index_and_from_the_readme():
    for start in (CHECKOUT / "README.md", CHECKOUT / "docs" / "index.md"):
        reached = {start}
        waiting = [start]
        while waiting:
            page = waiting.pop()
            targets = {(page.parent / path).resolve() for path, _ in links(TEXTS[page]) if path}
            new = (targets & set(PAGES)) - reached
            reached |= new
            waiting += new
        assert set(DOCS) - reached <= {CHECKOUT / "docs" / "index.md"}
    linked = {path for path, _ in links(TEXTS[CHECKOUT / "docs" / "index.md"])}
    assert {page.name for page in DOCS} - linked == {"index.md"}


@of_every_page
def test_pages_are_short_or_made(page):
    written = TEXTS[page]
    for name in pages.SECTIONS:
        region = rf"<!-- {name}: begin -->.*?<!-- {name}: end -->"
        written = re.sub(region, "", written, flags=re.DOTALL)
    assert len(written.encode()) <= 8192


OF_RECORDS = ("study", "leaderboard", "leading", "agreement", "parity", "duels")


@pytest.mark.parametrize("name", [name for name in pages.SECTIONS if name not in OF_RECORDS])
def test_lists_of_plugins_metrics_and_suites_are_those_of_the_code(name):
    (page,) = (page for page in PAGES if f"<!-- {name}: end -->" in TEXTS[page])
    made = files.marked(name, pages.SECTIONS[name](measured([])))
    renew = "python -m bench report --embed README.md --embed docs"
    assert made in TEXTS[page], f"{page.name} is outdated; run `{renew}`"


@pytest.fixture(scope="module")
def committed():
    """Every committed record."""
    folders = sorted(path.parent for path in (CHECKOUT / "results").glob("*/records.jsonl"))
    return measured([record for folder in folders for record in records.load_all(folder)])


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("leaderboard", ["docs/results.md", "results/leaderboard.md"]),
        ("leading", ["README.md"]),
        ("agreement", ["docs/results.md"]),
        ("parity", ["docs/parity.md"]),
        ("duels", ["docs/duels.md"]),
    ],
)
def test_what_is_made_of_records_is_of_the_committed_ones_and_the_same_everywhere(
    name, where, committed
):
    made = files.marked(name, pages.SECTIONS[name](committed))
    for page in where:
        assert made in (CHECKOUT / page).read_text()


def test_the_committed_report_has_each_level_of_the_study_once():
    report = (CHECKOUT / "results" / "mnist" / "report.md").read_text()
    assert re.findall(r"^#+ Level (\d)", report, re.MULTILINE) == list("123456")


def help_of(*command):
    """What ``python -m bench ... --help`` prints; the empty text where there is no such command."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()), suppress(SystemExit):
        main([*command, "--help"])
    return out.getvalue()


def options() -> set[str]:
    """Every option of ``pytest bench`` and of ``python -m bench``."""
    found = []

    class Group:
        def addoption(self, name, **_):
            found.append(name)

    class Parser:
        def getgroup(self, *_):
            return Group()

    pytest_addoption(Parser())
    named = set(re.findall(r"python -m bench ([a-z]+)", EVERYTHING))
    texts = "".join(help_of(name) for name in named)
    return {*found, *re.findall(r"(?<![\w-])--[a-z][a-z-]*", texts)}


OPTIONS = options()
OF_PYTEST = {"--benchmark-json", "--help", "--junit-xml", "--pyargs"}


@of_every_page
def test_options_and_commands_that_a_page_names_exist(page):
    text = re.sub(r"(pip install |(?<=\n)(#SBATCH|srun|ray) )[^\n`]*", "", TEXTS[page])
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - OF_PYTEST <= OPTIONS
    for name in set(re.findall(r"python -m bench ([a-z]+)", text)):
        assert help_of(name).startswith(f"usage: python -m bench {name}")


def test_commands_name_plugins_that_exist():
    known = {*ATTACKS.names(), *DEFENSES.names(), "imported", "stripes", "loss_ranking"}
    for name in re.findall(r"-k (\w+)", EVERYTHING):
        assert name in known
    for ids in re.findall(r"--(?:attack|defense) ([\w,+=*]+)", EVERYTHING):
        for part in ids.split(","):
            assert fnmatch.filter(known | {"none"}, part.partition("+")[0]), ids
    for name in re.findall(r"--suite (\w+)", EVERYTHING):
        assert name in {*suites.names(), "NAME"}
    for cell in re.findall(r"test_\w+\[([\w-]+)\]", EVERYTHING):
        dataset, model, attack, defense, _ = cell.split("-")
        assert dataset in DATASETS
        assert model in MODELS
        assert {attack, defense} <= known


def test_paths_that_pages_name_in_code_exist():
    for path in re.findall(r"`((?:bench|tests|fixtures|attacks|defenses)/[\w./*]*)", EVERYTHING):
        assert list(CHECKOUT.glob(path.rstrip("/"))), path


def test_the_workflow_runs_commands_that_exist():
    text = (CHECKOUT / ".github" / "workflows" / "bench.yml").read_text()
    text += "".join(re.findall(r"```yaml\n(.*?)```", EVERYTHING, re.DOTALL))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - OF_PYTEST <= OPTIONS
    for path in re.findall(r"[\w./]+/[\w.]+\.(?:json|py)\b", text):
        assert (CHECKOUT / path).exists(), path


def test_the_glossary_has_each_word_once():
    words = re.findall(r"^### (.+)$", TEXTS[CHECKOUT / "docs" / "glossary.md"], re.MULTILINE)
    assert len(words) == len(set(words))
    assert set(words) >= {
        *("cell", "victim", "record", "identity", "key", "role", "kind", "gate", "claim"),
        *("view", "trajectory", "suite", "did not take", "seed", "baseline", "recipe"),
        *("role", "cover", "plan", "overlay", "access", "budget", "lattice", "codec"),
    }


def test_the_number_of_faults_is_right():
    faults = runpy.run_path(str(CHECKOUT / "tests" / "mutations.py"))["FAULTS"]
    said = TEXTS[CHECKOUT / "docs" / "honesty.md"]
    assert f"puts {len(faults)} deliberate faults" in said
    score = (CHECKOUT / "results" / "mutations.md").read_text()
    noticed, scored = re.search(r"(\d+) of (\d+) are noticed", score).groups()
    assert noticed == scored
    assert int(scored) == len(faults)
    assert f"[{scored} of {scored} do]" in said


def test_the_baseline_is_of_the_committed_records():
    from bench.analysis.accepted import load

    accepted = load(CHECKOUT / "results" / "baseline.json")
    for name in ("digits", "mnist"):
        found = load(CHECKOUT / "results" / name)
        assert found.items() <= accepted.items()
        assert all(len(cell.seeds) >= 3 for cell in found.values())


def test_the_committed_gates_are_those_of_the_committed_records():
    for path in sorted(gate_files.FOLDER.glob("*.toml")):
        made_of = re.match(r"# Made by `python -m bench gates (.*)`", path.read_text())[1]
        folders = [CHECKOUT / folder for folder in made_of.split()]
        found = measured(record for folder in folders for record in records.load_all(folder))
        assert toml(proposals(found), made_of) == path.read_text(), path.name


def test_there_is_an_example_of_each_kind():
    assert set(EXAMPLES) == {"stripes.py", "loss_ranking.py", "halves.py", "mine.toml"}


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The examples as files of a folder, their plugins registered for one test."""
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with ExitStack() as stack:
        for registry in (ATTACKS, DEFENSES, DATASETS, MODELS):
            stack.enter_context(registry.temporary())
        for name in EXAMPLES:
            if name.endswith(".py"):
                module = name.removesuffix(".py")
                monkeypatch.delitem(sys.modules, module, raising=False)
                importlib.import_module(module)
        yield tmp_path
    for name in EXAMPLES:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.usefixtures("examples")
def test_the_examples_conform():
    check_attack("stripes")
    check_defense("loss_ranking")
    check_dataset("halves")
    check_model("two_layers")


@pytest.mark.usefixtures("examples")
def test_the_examples_run_in_the_benchmark(workspace):
    record = run(Cell("halves", "two_layers", "stripes", "loss_ranking"), workspace)
    assert record.kind == "detection"
    assert set(record.metrics) >= {"f1", "tpr", "fpr"}
    assert run(Cell("halves", "two_layers", "stripes"), workspace).metrics["clean_accuracy"] > 0.9


def test_the_examples_suite_selects(examples):
    suite = suites.read(examples / "mine.toml")
    attacks = selection.attacks("mine", suite.attacks)
    assert attacks == ["none", "pixel+size=0.2", "blended", "blur", "bpp"]
    defenses = selection.defenses("mine", suite.defenses)
    assert {"none", "strip", "loss_ranking", "fine_pruning"} < set(defenses)
    assert "fine_tuning" not in defenses
