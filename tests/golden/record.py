"""Records what jobs compute; run in the tests folder, with PYTHONPATH=CHECKOUT:CHECKOUT/tests.

python -m golden.record facts FILE          adds this machine's facts to a file
python -m golden.record saved NAME          writes NAME.zip: a model and interrupted runs as this code saves them
python -m golden.record against COMMIT      computes all at another commit and here, and compares the bits
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# As conftest.py has it; bits depend on it, and JAX reads it when it is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import tiny

import flaxtl
from golden import facts, jobs

HERE = Path(__file__).resolve().parent


def record(file: Path) -> None:
    """Adds the facts of this machine to a file."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    found = {}
    for name, job in jobs.JOBS.items():
        print(name, file=sys.stderr, flush=True)
        found[name] = job()
    known[facts.machine()] = found
    file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def save(name: Path) -> None:
    """Writes an archive of a model and interrupted runs, with the facts of what they say and become."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "saved"
        folder.mkdir()
        jobs.save_model(folder / "model")
        said = {"model": facts.facts_of_model(flaxtl.load(os.fspath(folder / "model")), tiny.source(4, seed=9))}
        for job, step in jobs.INTERRUPTED_AT.items():
            with jobs.interrupted_at(step):
                jobs.run(job, folder / job)
            whole = shutil.copytree(folder / job, Path(place) / job)
            said[job] = facts.facts_of_model(jobs.run(job, whole, resume=True).model, tiny.source(4, seed=9))
        text = json.dumps({facts.machine(): said}, indent=1, sort_keys=True)
        (folder / "facts.json").write_text(text + "\n", encoding="utf-8")
        shutil.make_archive(os.fspath(name), "zip", folder)


def against(commit: str) -> int:
    """Computes everything at another commit and here, on this machine, and compares the bits."""
    root = HERE.parent.parent
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        subprocess.run(["git", "-C", root, "worktree", "add", "-q", "--detach", tree, commit], check=True)
        try:
            both = []
            for name, code in (("then", tree), ("now", root)):
                file = Path(place) / f"{name}.json"
                # The jobs are this commit's, the code that they run is the other's.
                search = os.pathsep.join(map(str, (code, HERE.parent)))
                environment = {**os.environ, "PYTHONPATH": search}
                command = [sys.executable, "-m", "golden.record", "facts", file]
                subprocess.run(command, cwd=HERE.parent, env=environment, check=True)
                both.append(next(iter(json.loads(file.read_text(encoding="utf-8")).values())))
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", tree], check=True)
    differences = facts.compare(both[1], both[0], exact=True)
    print("\n".join(differences) or f"{len(both[0])} jobs give the same bits as at {commit}")
    return min(len(differences), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("facts", "saved", "against"))
    parser.add_argument("where")
    given = parser.parse_args()
    if given.what == "against":
        return against(given.where)
    (record if given.what == "facts" else save)(Path(given.where))
    return 0


if __name__ == "__main__":
    sys.exit(main())
