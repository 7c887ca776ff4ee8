"""The worker that runs the peers in PyTorch, in an interpreter of its own that need not have JAX or flaxtl."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from small_data.manifests import Manifest
from small_data.measuring import figures, given_batch, mean_by_example, softmax, versions_of, work
from small_data.torch_data import inputs_of
from small_data.torch_networks import network
from small_data.torch_recipes import RECIPES, embedded

EVALUATED = {"image": 8, "text": 64, "audio": 64}


class Worker:
    """Runs jobs of one set."""

    def __init__(self, batch: dict[str, Any]):
        self.manifest = Manifest.read(batch["manifest"])
        self.weights = Path(batch["weights"])
        self.inputs = inputs_of(self.manifest, self.weights, batch.get("front_end"))
        self.size = EVALUATED[self.manifest.modality]

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Trains on a draw by the recipe that the job names, and measures what comes out."""
        torch.manual_seed(job["draw"])
        rng = np.random.default_rng(job["draw"])
        train, test = self.manifest.draw(job["shots"], job["draw"])
        began = time.perf_counter()
        model = network(self.weights, len(self.manifest.labels))
        rows = self.inputs.rows(train)
        targets = self.manifest.targets_of(self.inputs.example(rows))
        RECIPES[job["method"]](model, self.inputs, rows, targets, job["settings"], rng)
        head = self._fitted(model, train, job["draw"]) if job["method"] == "setfit" else None
        seconds = time.perf_counter() - began
        said = self._said(model, test) if head is None else head.predict_proba(self._features(model, test))
        return {
            **figures(said, self.manifest.targets_of(test)),
            "seconds": seconds,
            "evaluation_seconds": time.perf_counter() - began - seconds,
        }

    def _said(self, model: Any, items: np.ndarray) -> np.ndarray:
        """Returns probabilities, those of a clip's windows averaged."""
        rows = self.inputs.rows(items)
        example = np.searchsorted(np.sort(items), self.inputs.example(rows))
        by_sorted = mean_by_example(softmax(embedded(model, self.inputs, rows, self.size)), example)
        return by_sorted[np.searchsorted(np.sort(items), items)]

    def _features(self, model: Any, items: np.ndarray) -> np.ndarray:
        return embedded(model.body, self.inputs, items, self.size)

    def _fitted(self, model: Any, items: np.ndarray, seed: int) -> Any:
        from small_data.peers_sklearn import fitted

        return fitted(self._features(model, items), self.manifest.targets_of(items), seed)

    def write_features(self, file: Path) -> None:
        """Writes the frozen features of all examples, windows averaged, and the seconds that one took."""
        model = network(self.weights, len(self.manifest.labels))
        items = np.arange(len(self.manifest.items))
        rows = self.inputs.rows(items)
        embedded(model.body, self.inputs, rows[:1], 1)
        began = time.perf_counter()
        features = mean_by_example(embedded(model.body, self.inputs, rows, self.size), self.inputs.example(rows))
        seconds = (time.perf_counter() - began) / len(items)
        part = file.with_suffix(".part.npz")
        np.savez(part, features=features.astype(np.float32), seconds=seconds)
        part.rename(file)


def main() -> None:
    """Runs the batch that the argument names."""
    batch = given_batch()
    torch.set_num_threads(batch["threads"])
    worker = Worker(batch)
    if batch["worker"] == "features":
        worker.write_features(Path(batch["features"]))
        return
    packages = {"image": ["torchvision"], "text": ["transformers", "scikit-learn"], "audio": []}
    work(batch, worker.run, versions_of(["torch", *packages[worker.manifest.modality], "numpy"]))


if __name__ == "__main__":
    main()
