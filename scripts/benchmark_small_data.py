"""Small data: flaxtl beside its peers, on the same draws and the same pretrained weights.

    python scripts/benchmark_small_data.py --plan                                   # what would be run, and its cost
    python scripts/benchmark_small_data.py --torch-python .venv-parity/bin/python   # the pictures, resumable
    python scripts/benchmark_small_data.py --sets banking77_10 esc10_folds123 fsdd --torch-python …
    python scripts/benchmark_small_data.py --sets flowers --shots 5 --draws 3 --methods head sklearn --torch-python …
    python scripts/benchmark_small_data.py --tables                                 # the page, from what is there

Peers in PyTorch run in an interpreter of their own, which needs torch, torchvision, transformers, safetensors,
tokenizers and scikit-learn (the [parity] and [text] extras); scikit-learn runs on one BLAS thread on features that
torch computed. Each finished job is a line of the results file, so that a second run does what is left. No method sees
the test parts; `scripts/small_data/plans.py` holds every setting.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from small_data.manifests import Manifest
from small_data.plans import DRAWS, METHODS, OURS, PLAN, Job, expected, jobs_of
from small_data.running import Bench, Failed
from small_data.sets import SETS
from small_data.tables import page

PICTURES = [name for name, small in SETS.items() if small.modality == "image"]
DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def options() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=PICTURES, help="by default the pictures")
    parser.add_argument("--shots", nargs="+", type=int, help="by default those of the plan")
    parser.add_argument("--draws", type=int, help="by default those of the plan")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="by default all of the plan")
    parser.add_argument("--epochs", type=int, help="at most so many passes, for trying out")
    parser.add_argument("--budget-minutes", type=float, help="begin no further batch after this time")
    parser.add_argument("--torch-python", help="the interpreter of the peers in PyTorch; without it they are left out")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--work", type=Path, default=Path("runs/small_data"), help="manifests, features, caches")
    parser.add_argument("--results", type=Path, default=DOCS / "small_data.jsonl")
    parser.add_argument("--page", type=Path, default=DOCS / "small_data.md")
    parser.add_argument("--plan", action="store_true", help="print what would be run and what it is expected to cost")
    parser.add_argument("--tables", action="store_true", help="only write the page")
    return parser.parse_args()


def batches(bench: Bench, chosen: argparse.Namespace) -> list[tuple[Path, list[Job]]]:
    """Returns what is to be run, cheap methods of all sets before the dear ones."""
    found = []
    for name in chosen.sets:
        manifest_file = bench.manifest(name, max(DRAWS, chosen.draws or 0))
        manifest = Manifest.read(manifest_file)
        jobs = jobs_of(manifest, chosen.methods, chosen.shots, chosen.draws, chosen.epochs)
        if chosen.torch_python is None and not chosen.plan:
            jobs = [job for job in jobs if job.method in OURS]
        for (method, _), some in itertools.groupby(jobs, key=lambda job: (job.method, job.shots)):
            place = list(PLAN[manifest.name]).index(method)
            found.append((place, manifest_file, list(some)))
    return [(file, jobs) for _, file, jobs in sorted(found, key=lambda entry: entry[0])]


def print_plan(bench: Bench, wanted: list[tuple[Path, list[Job]]]) -> None:
    """Prints how many jobs there are, done and to do, and the CPU time that is expected of all and of the rest."""
    done = bench.done()
    keys = {line["key"] for line in done}
    all_of: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0, 0.0, 0.0])
    for file, jobs in wanted:
        manifest = Manifest.read(file)
        for job in jobs:
            row, cost = all_of[job.set, job.method], expected(job, manifest, done)
            row[0] += 1
            row[1] += job.key in keys
            row[2] += cost
            row[3] += cost * (job.key not in keys)
    print(f"{'set':16}{'method':16}{'jobs':>6}{'done':>6}{'CPU minutes':>14}{'left':>8}")
    for (name, method), (jobs, finished, cost, left) in sorted(all_of.items(), key=lambda e: (e[0][0], -e[1][2])):
        print(f"{name:16}{method:16}{jobs:6.0f}{finished:6.0f}{cost / 60:14.1f}{left / 60:8.1f}")
    total, left = (sum(row[i] for row in all_of.values()) / 3600 for i in (2, 3))
    print(f"{total:.2f} CPU-hours in all, {left:.2f} of them to do")


def commit() -> str:
    """Returns the code's commit, with a + where it has been changed since."""
    here = Path(__file__).resolve().parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=here,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return found.stdout.strip() or "unknown"


def write_page(bench: Bench, file: Path) -> None:
    """Writes the page of tables from all finished jobs."""
    sounds_and_texts = " ".join(name for name in SETS if name not in PICTURES)
    command = "python scripts/benchmark_small_data.py --torch-python PYTHON_WITH_TORCH"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(bench.done(), [command, f"{command} --sets {sounds_and_texts}"]), encoding="utf-8")


def main() -> int:
    """Plans, runs and tabulates."""
    chosen = options()
    chosen.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(chosen.data, chosen.weights, chosen.work, chosen.results, chosen.torch_python, chosen.threads)
    if chosen.tables:
        write_page(bench, chosen.page)
        return 0
    wanted = batches(bench, chosen)
    if chosen.plan:
        print_plan(bench, wanted)
        return 0
    until = None if chosen.budget_minutes is None else time.monotonic() + 60 * chosen.budget_minutes
    return run(bench, wanted, until, chosen.page)


def run(bench: Bench, wanted: list[tuple[Path, list[Job]]], until: float | None, file: Path) -> int:
    """Runs batch after batch; one that fails is told and the others are run all the same."""
    failures = []
    for manifest_file, jobs in wanted:
        if until is not None and time.monotonic() > until:
            print("The time is up; run the same command again for the rest.", file=sys.stderr)
            break
        try:
            bench.run(manifest_file, jobs, commit(), until)
        except Failed as error:
            failures.append(str(error))
            print(error, file=sys.stderr)
    write_page(bench, file)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
