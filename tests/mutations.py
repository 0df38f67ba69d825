"""Deliberate faults, each of which must turn some test red: who tests the tests?

    python tests/mutations.py                 every fault, about ten minutes
    python tests/mutations.py "gate*"         some of them
    python tests/mutations.py --to FILE       write the score as a Markdown table as well

Each fault is put into a copy of the checkout, and the tests that should notice run there. A fault
that nobody notices, or whose place in the code has moved, is told, and the exit code is 1. The same
tests run first without any fault: what is red by itself proves nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Fault:
    """In ``file``, ``right`` becomes ``wrong``; ``tests`` (pytest's arguments) should notice."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


FAULTS = [
    Fault(
        "a trigger that does nothing",
        "attacks/pixel.py",
        "        return stamped",
        "        return images.clone()",
        "tests/test_attacks.py",
    ),
    Fault(
        "the poison mask shifted by one",
        "attacks/base.py",
        "return PoisonedSet(images, labels, chosen)",
        "return PoisonedSet(images, labels, chosen.roll(1))",
        "tests/test_attacks.py",
    ),
    Fault(
        "poison also chosen from the target class",
        "attacks/base.py",
        "self.choose(train.labels != aims, train.size, generator)",
        "self.choose(train.labels >= 0, train.size, generator)",
        "tests/test_attacks.py",
    ),
    Fault(
        "ASR counts images of the target class",
        "bench/metrics.py",
        "return share(predicted[others] == aims[others])",
        "return share(predicted == aims)",
        "tests/test_metrics.py",
    ),
    Fault(
        "FPR counted over the poisoned samples",
        "bench/metrics.py",
        '"fpr": share(flags[~poisoned])',
        '"fpr": share(flags[poisoned])',
        "tests/test_metrics.py",
    ),
    Fault(
        "DER with before and after exchanged",
        "bench/metrics.py",
        "gained = max(0.0, asr_before - asr_after)",
        "gained = max(0.0, asr_after - asr_before)",
        "tests/test_metrics.py",
    ),
    Fault(
        "test data leak into the clean split",
        "fixtures/datasets.py",
        "        clean=clean,",
        "        clean=raw.test.take(torch.arange(clean.size)),",
        "tests/test_datasets.py",
    ),
    Fault(
        "a defense is shown the test set",
        "bench/victims.py",
        "clean=self.dataset.clean.clone(),",
        "clean=self.dataset.test.clone(),",
        "tests/test_oracle.py",
    ),
    Fault(
        "a defense works on the victim itself",
        "bench/victims.py",
        "model=copy.deepcopy(self.model),",
        "model=self.model,",
        "tests/test_oracle.py",
    ),
    Fault(
        "the defender's randomness is the attacker's",
        "bench/judging.py",
        'seed_of("defense", cell.seed)',
        'seed_of("poison", cell.seed)',
        "tests/test_oracle.py",
    ),
    Fault(
        "flags in shuffled order",
        "defenses/activation_clustering.py",
        "torch.from_numpy(flags))",
        "torch.from_numpy(flags[np.random.permutation(len(flags))]))",
        "tests/test_defenses.py",
    ),
    Fault(
        "all-to-all ASR asks every image for one class",
        "attacks/base.py",
        "            return (labels + 1) % self.num_classes",
        "            return torch.full_like(labels, self.target)",
        "tests/test_mapping.py",
    ),
    Fault(
        "a mask that does not flip the model passes for the best",
        "defenses/neural_cleanse.py",
        "works = flipped >= search.success * stamped_others",
        "works = flipped >= 0",
        "tests/test_repairs.py",
    ),
    Fault(
        "a large mask is as anomalous as a small one",
        "defenses/neural_cleanse.py",
        "return (median - norms) / torch.maximum(spread, median / 100)",
        "return (median - norms).abs() / torch.maximum(spread, median / 100)",
        "tests/test_repairs.py",
    ),
    Fault(
        "spectral signatures project without centring",
        "defenses/spectral_signatures.py",
        "return np.square((points - mean) @ direction)",
        "return np.square(points @ direction)",
        "tests/test_art.py",
    ),
    Fault(
        "STRIP's threshold comes from the inputs it screens",
        "defenses/strip.py",
        "known = -self._entropy(view, view.clean.images[order[half:]], overlays)",
        "known = -self._entropy(view, images, overlays)",
        "tests/test_oracle.py",
    ),
    Fault(
        "retraining keeps what was flagged",
        "defenses/filter_and_retrain.py",
        "view.suspect.take((~flags).nonzero().flatten())",
        "view.suspect.take(flags.nonzero().flatten())",
        "tests/test_repairs.py",
    ),
    Fault(
        "I-BAU forgets how the worst perturbation moves",
        "defenses/ibau.py",
        "(0 if i is None else i)",
        "0",
        "tests/test_repairs.py",
    ),
    Fault(
        "ANP prunes past its held-out accuracy",
        "defenses/anp.py",
        '            if point["clean_accuracy"] < floor:\n                break\n',
        "",
        "tests/test_repairs.py",
    ),
    Fault(
        "the most active channels are pruned",
        "defenses/fine_pruning.py",
        "argsort(stable=True)",
        "argsort(stable=True, descending=True)",
        "tests/test_defenses.py",
    ),
    Fault(
        "pruned channels grow back in fine-tuning",
        "defenses/fine_pruning.py",
        "        alive[self._order[:pruned]] = 0\n",
        "",
        "tests/test_defenses.py",
    ),
    Fault(
        "a gate's direction reversed",
        "bench/gates.py",
        "self.value >= self.bound if",
        "self.value <= self.bound if",
        "tests/test_gates.py",
    ),
    Fault(
        "gates judge the best seed rather than the mean",
        "bench/gates.py",
        "value=fmean(found)",
        "value=max(found)",
        "tests/test_tables.py",
    ),
    Fault(
        "a stale victim after a trigger's code changed",
        "bench/identity.py",
        '"attack": source_of(ATTACKS[cell.attack].factory),',
        '"attack": "",',
        "tests/test_identity.py",
    ),
    Fault(
        "a stale record after a defense's code changed",
        "bench/identity.py",
        "own = source_of(DEFENSES[cell.defense].factory)",
        'own = ""',
        "tests/test_identity.py",
    ),
    Fault(
        "a damaged victim is used as it is",
        "bench/victims.py",
        'if hashlib.sha256(data).hexdigest() != about["sha256"]:',
        "if False:",
        "tests/test_victims.py -k damaged",
    ),
    Fault(
        "an altered record is used as it is",
        "bench/records.py",
        'if content.pop("sha256") != _checksum(content):',
        'if content.pop("sha256") == "":',
        "tests/test_reliability.py -k damaged_record",
    ),
    Fault(
        "a victim is stored before it is whole",
        "bench/files.py",
        "        temporary.replace(path)\n    except",
        "        path.write_bytes(data[: len(data) // 2])\n    except",
        "tests/test_victims.py",
    ),
    Fault(
        "an interval of the normal distribution",
        "bench/tables.py",
        "student_t.ppf(0.975, self.n - 1)",
        "student_t.ppf(0.975, 1_000_000)",
        "tests/test_tables.py",
    ),
    Fault(
        "records of different identity share a row",
        "bench/tables.py",
        "(name_of(record), record.lineage)",
        '(name_of(record), "")',
        "tests/test_tables.py",
    ),
    Fault(
        "the false positives of another detector",
        "bench/tables.py",
        " and defense_version(record) == version",
        "",
        "tests/test_tables.py",
    ),
    Fault(
        "regressed and improved exchanged",
        "bench/baseline.py",
        '"improved" if gain > 0 else "regressed"',
        '"improved" if gain < 0 else "regressed"',
        "tests/test_baseline.py -k 'not run and not workers'",
    ),
    Fault(
        "a new spread excuses itself",
        "bench/baseline.py",
        "allowed = allowance(tolerance, old, new.n)",
        "allowed = allowance(tolerance, max(old, new, key=lambda f: f.spread or 0), new.n)",
        "tests/test_baseline.py -k spread",
    ),
    Fault(
        "a missing cell is forgiven",
        "bench/baseline.py",
        'bad = {"regressed", "missing"}',
        'bad = {"regressed"}',
        "tests/test_baseline.py -k fails",
    ),
    Fault(
        "another question is compared all the same",
        "bench/baseline.py",
        "    if asked:\n",
        "    if False:\n",
        "tests/test_baseline.py -k comparable",
    ),
    Fault(
        "a plugin may swallow its deadline",
        "bench/deadline.py",
        "class CellTimeout(BaseException):",
        "class CellTimeout(Exception):",
        "tests/test_reliability.py -k swallow",
    ),
    Fault(
        "attacks ranked by the worst repair",
        "bench/ranking.py",
        '_best(some, "repair", "asr", min)',
        '_best(some, "repair", "asr", max)',
        "tests/test_leaderboard.py -k best",
    ),
]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["*"], help="globs of faults. Default: all")
    parser.add_argument("--to", type=Path, help="write the score there, as Markdown")
    options = parser.parse_args(arguments)
    chosen = [f for f in FAULTS if any(fnmatchcase(f.name, glob) for glob in options.names)]
    if not chosen:
        parser.error(f"no fault is called {' or '.join(options.names)}")
    red = [tests for tests in dict.fromkeys(f.tests for f in chosen) if _noticed(None, tests)]
    if red:
        print(f"red without any fault, which proves nothing: {', '.join(red)}")
        return 1
    rows = []
    for fault in chosen:
        noticed = _noticed(fault, fault.tests)
        rows.append((fault, noticed))
        print(f"{'noticed' if noticed else 'NOT NOTICED':12} {fault.name}", flush=True)
    caught = sum(noticed for _, noticed in rows)
    print(f"score: {caught} of {len(rows)} faults noticed")
    if options.to:
        options.to.write_text("\n".join(_markdown(rows)))
    return 0 if caught == len(rows) else 1


def _noticed(fault: Fault | None, tests: str) -> bool:
    """Whether some test is red in a copy of the checkout with this fault in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(
            CHECKOUT, copy, ignore=shutil.ignore_patterns(".*", "results", "*.egg-info")
        )
        if fault is not None:
            file = copy / fault.file
            text = file.read_text()
            if text.count(fault.right) != 1:
                sys.exit(f"{fault.name}: {fault.file} no longer holds it once: {fault.right!r}")
            file.write_text(text.replace(fault.right, fault.wrong))
        command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
        done = subprocess.run(
            command,
            shell=True,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 1):  # not a test that failed, but no test at all
            sys.exit(f"{fault.name if fault else tests}: {done.stdout[-800:]}{done.stderr[-800:]}")
        return done.returncode == 1


def _markdown(rows: Iterable[tuple[Fault, bool]]) -> Iterable[str]:
    rows = list(rows)
    yield "# Deliberate faults"
    yield ""
    yield f"{sum(noticed for _, noticed in rows)} of {len(rows)} are noticed by the tests."
    yield "Made by `python tests/mutations.py --to results/mutations.md`."
    yield ""
    yield "| fault | where | noticed by | |"
    yield "| --- | --- | --- | --- |"
    for fault, noticed in rows:
        verdict = "noticed" if noticed else "**not noticed**"
        yield f"| {fault.name} | {fault.file} | `{fault.tests}` | {verdict} |"
    yield ""


if __name__ == "__main__":
    sys.exit(main())
