"""Few and unequal examples: our solved head beside scikit-learn's, paired on the same features.

    python scripts/benchmark_unequal.py                            # some 400 draws of seven sets; resumable
    python scripts/benchmark_unequal.py --sets flowers --draws 2   # a look
    PYTHONPATH=OTHER_CHECKOUT python scripts/benchmark_unequal.py --label before --ours-only
    python scripts/benchmark_unequal.py --tables                   # the page, from what is there

scikit-learn runs on one BLAS thread. Every draw is measured on examples that no method saw; each class counts there by
its share of the training examples, but for balanced accuracy.
"""

from __future__ import annotations

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unequal import heads
from unequal.draws import PLAN, Draw, Features, Regime
from unequal.table import page

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def options() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=list(PLAN), default=list(PLAN))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first draw's number")
    parser.add_argument("--label", default="after", help="what the results of our head are called")
    parser.add_argument("--ours-only", action="store_true", help="leave scikit-learn out")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--work", type=Path, default=Path("runs/unequal"), help="where features are kept")
    parser.add_argument("--results", type=Path, default=DOCS / "unequal.jsonl")
    parser.add_argument("--page", type=Path, default=DOCS / "unequal.md")
    parser.add_argument("--tables", action="store_true", help="only write the page")
    return parser.parse_args()


def wanted(label: str, ours_only: bool) -> list[str]:
    """Returns the methods to run, as the results file names them."""
    ours = [f"{heads.OURS} ({label})", f"{heads.BALANCED} ({label})"]
    return ours if ours_only else [*ours, heads.SEARCHED, heads.DEFAULT, heads.WEIGHTED]


def probabilities(method: str, draw: Draw, seed: int) -> Any:
    """Runs a method on a draw."""
    if method.startswith(heads.BALANCED):
        return heads.ours(draw, seed, "auto")
    if method.startswith(f"{heads.OURS} ("):
        return heads.ours(draw, seed)
    if method == heads.SEARCHED:
        return heads.searched(draw, seed)
    return heads.default(draw, "balanced" if method == heads.WEIGHTED else None)


def jobs(chosen: argparse.Namespace, done: set[tuple[Any, ...]]) -> Iterator[tuple[str, Regime, int, list[str]]]:
    """Yields what is not done yet: set, regime, draw, methods."""
    for seed in range(chosen.first, chosen.first + chosen.draws):
        for name in chosen.sets:
            for regime in PLAN[name]:
                key = (name, regime.kind, regime.counts, seed)
                left = [m for m in wanted(chosen.label, chosen.ours_only) if (*key, m) not in done]
                if left:
                    yield name, regime, seed, left


def read(file: Path) -> list[dict[str, Any]]:
    """Returns the finished jobs."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Returns figures with the digits that a table can use."""
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in figures.items()}


def main() -> int:
    """Runs what is left, and writes the page."""
    chosen = options()
    if not chosen.tables:
        done = {(r["set"], r["kind"], tuple(r["counts"]), r["draw"], r["method"]) for r in read(chosen.results)}
        features: dict[str, Features] = {}
        for name, regime, seed, methods in jobs(chosen, done):
            if name not in features:
                features[name] = Features.of(name, chosen.data, chosen.weights, chosen.work)
            draw = features[name].draw(name, regime, seed)
            for method in methods:
                found = heads.figures(probabilities(method, draw, seed), draw)
                line = {"set": name, "kind": regime.kind, "counts": regime.counts, "draw": seed, "method": method}
                with chosen.results.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({**line, **rounded(found)}) + "\n")
            print(f"{name}, {regime.name}, draw {seed}", file=sys.stderr)
    chosen.page.write_text(page(read(chosen.results)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
