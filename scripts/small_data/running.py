"""Starts the workers, one process for the draws of a method, and keeps each finished job's line."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from small_data.manifests import Manifest
from small_data.plans import OURS, Job, read_lines
from small_data.sets import SETS, make_manifest

SCRIPTS = Path(__file__).resolve().parent.parent
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


class Failed(Exception):
    """A worker ended with an error, which it has printed."""


@dataclasses.dataclass
class Bench:
    """Where everything lies and what runs it.

    Attributes:
        data: the folder of data sets.
        weights: the folder of pretrained networks.
        work: manifests, features and caches.
        results: the file of finished jobs, one JSON line each.
        torch_python: the interpreter of the peers in PyTorch, or None to leave them out.
        threads: of PyTorch.
    """

    data: Path
    weights: Path
    work: Path
    results: Path
    torch_python: str | None = None
    threads: int = 2

    def manifest(self, name: str, draws: int) -> Path:
        """Returns a set's manifest, which is drawn anew so that it is never that of other files."""
        file = self.work / "manifests" / f"{name}.json"
        make_manifest(name, self.data, draws).write(file)
        return file

    def done(self) -> list[dict[str, Any]]:
        """Returns the finished jobs."""
        return read_lines(self.results)

    def run(self, manifest_file: Path, jobs: Sequence[Job], commit: str, until: float | None = None) -> None:
        """Runs those jobs of one set, method and number of shots that are not done yet, in one process.

        Args:
            manifest_file: of the set.
            jobs: in order.
            commit: of the code, for the record.
            until: the time (of `time.monotonic`) after which no further job is kept.

        Raises:
            Failed: a worker ended with an error.
        """
        done = {line["key"] for line in self.done()}
        left = [dataclasses.asdict(job) for job in jobs if job.key not in done]
        if not left:
            return
        first = jobs[0]
        kind = "ours" if first.method in OURS else "sklearn" if first.method == "sklearn" else "torch"
        batch = self._prepared(manifest_file, kind)
        print(f"{first.set}, {first.shots} a class, {first.method}: {len(left)} draws", file=sys.stderr)
        with self._started({**batch, "worker": kind, "jobs": left}, kind) as process:
            assert process.stdout is not None
            for text in process.stdout:
                line = {**json.loads(text), "commit": commit}
                self._keep(line)
                print(f"  draw {line['draw']}: {line['accuracy']:.1%} in {line['seconds']:.1f} s", file=sys.stderr)
                if until is not None and time.monotonic() > until:
                    process.terminate()
                    return
        if process.returncode != 0:
            raise Failed(f"The worker of {first.set}, {first.method}, ended with {process.returncode}.")

    def _keep(self, line: dict[str, Any]) -> None:
        self.results.parent.mkdir(parents=True, exist_ok=True)
        cut_short = self.results.exists() and not self.results.read_bytes().endswith(b"\n")
        with self.results.open("a", encoding="utf-8") as file:
            file.write("\n" * cut_short + json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _prepared(self, manifest_file: Path, kind: str) -> dict[str, Any]:
        """Returns a batch's files, after making the front end's output and the features that the peers share."""
        manifest = Manifest.read(manifest_file)
        batch: dict[str, Any] = {
            "manifest": str(manifest_file),
            "weights": str(self.weights / SETS[manifest.name].weights),
            "cache": str(self.work / "cache"),
            "threads": self.threads,
        }
        if kind == "ours":
            return batch
        # By content: other draws have other items, and then other files.
        name = f"{manifest.name}-{manifest.items_digest()}"
        if manifest.modality == "audio":
            batch["front_end"] = str(self.work / f"{name}-front_end.npz")
            self._made(batch, "front_end", "ours")
        if kind == "sklearn":
            batch["features"] = str(self.work / f"{name}-features.npz")
            self._made(batch, "features", "torch")
        return batch

    def _made(self, batch: dict[str, Any], what: str, kind: str) -> None:
        if not Path(batch[what]).exists():
            print(f"{Path(batch[what]).name} is made", file=sys.stderr)
            with self._started({**batch, "worker": what}, kind) as process:
                process.wait()
            if process.returncode != 0:
                raise Failed(f"The worker that makes {batch[what]} ended with an error.")

    def _started(self, batch: dict[str, Any], kind: str) -> subprocess.Popen[str]:
        file = self.work / f"batch-{os.getpid()}.json"
        file.write_text(json.dumps(batch), encoding="utf-8")
        module = {"ours": "ours", "sklearn": "peers_sklearn", "torch": "peers_torch"}[kind]
        python = self.torch_python if kind == "torch" else sys.executable
        if python is None:
            raise Failed("The peers need an interpreter that has PyTorch. Name it with --torch-python.")
        path = os.pathsep.join([str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        compiled = {"JAX_COMPILATION_CACHE_DIR": str(self.work / "compiled"), "TOKENIZERS_PARALLELISM": "false"}
        environment = {**os.environ, "PYTHONPATH": path, **compiled, **(ONE_THREAD if kind == "sklearn" else {})}
        return subprocess.Popen(
            [python, "-m", f"small_data.{module}", str(file)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            encoding="utf-8",
        )
