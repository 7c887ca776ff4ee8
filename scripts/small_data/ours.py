"""The worker that runs flaxtl's own methods, and hands sound to the peers as its network receives it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import flaxtl
from flaxtl.data import Source
from flaxtl.metrics import calibration_band
from small_data.manifests import Manifest
from small_data.measuring import figures, given_batch, softmax, versions_of, work


def source_of(manifest: Manifest) -> Source:
    """Returns all examples of a set."""
    names = [manifest.labels[t] for t in manifest.targets]
    keys = [str(item) for item in manifest.items]
    groups = manifest.groups
    return Source.of(manifest.modality, manifest.read_items(), names, labels=manifest.labels, keys=keys, groups=groups)


class Worker:
    """Runs jobs of one set."""

    def __init__(self, batch: dict[str, Any]):
        self.manifest = Manifest.read(batch["manifest"])
        self.source = source_of(self.manifest)
        self.model = flaxtl.load(batch["weights"])
        self.cache = batch["cache"]

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Trains on a draw and measures what comes out; features are counted where the cache had none of them yet."""
        train, test = (self.source.subset(part) for part in self.manifest.draw(job["shots"], job["draw"]))
        began = time.perf_counter()
        result = flaxtl.finetune(
            self.model,
            train,
            test=test,
            seed=job["draw"],
            cache=self.cache,
            **{"strategy": job["method"], **job["settings"]},
        )
        assert result.metrics is not None
        return {
            **{name: getattr(result.metrics, name).value for name in ("accuracy", "log_loss", "ece")},
            "calibration": calibration(result, test.targets),
            "seconds": result.seconds,
            "evaluation_seconds": time.perf_counter() - began - result.seconds,
            "evidence": [_short(found) for found in result.evidence],
        }


def calibration(result: flaxtl.Result, targets: np.ndarray) -> dict[str, Any]:
    """Returns what the temperature is worth, and where a perfectly calibrated model's ECE would lie (95 %)."""
    assert result.probabilities is not None
    calibrated, temperature = np.asarray(result.probabilities, np.float64), result.model.card.head.temperature
    # softmax(z / t) to the power of t is proportional to softmax(z).
    plain = softmax(temperature * np.log(np.maximum(calibrated, 1e-300)))
    return {
        "temperature": temperature,
        "uncalibrated_log_loss": figures(plain, targets)["log_loss"],
        "ece_band": list(calibration_band(calibrated, draws=400)),
    }


def _short(found: dict[str, Any]) -> dict[str, Any]:
    """Returns what a table needs of a phase's evidence."""
    wanted = ("kind", "scaling", "strength", "temperature", "steps", "chosen", "why", "possible", "budget_seconds")
    kept = {k: found[k] for k in wanted if k in found}
    if found["kind"] == "auto":
        kept["candidates"] = [
            {k: c.get(k) for k in ("name", "accuracy", "loss", "seconds")} for c in found["candidates"]
        ]
    return kept


def write_front_end(batch: dict[str, Any]) -> None:
    """Writes what the network's front end makes of every clip: inputs [rows, …] and the example of each row."""
    import jax

    manifest, model = Manifest.read(batch["manifest"]), flaxtl.load(batch["weights"])
    preprocess = model.pipeline.preprocess
    device = jax.jit(preprocess.device)
    inputs, example = [], []
    for number, raw in enumerate(manifest.read_items()):
        for row in preprocess.rows(raw):
            inputs.append(np.asarray(device(jax.tree.map(lambda a: np.asarray(a)[None], row)))[0])
            example.append(number)
    file = Path(batch["front_end"])
    part = file.with_suffix(".part.npz")
    np.savez(part, inputs=np.stack(inputs), example=np.asarray(example))
    part.rename(file)


def main() -> None:
    """Runs the batch that the argument names."""
    batch = given_batch()
    if batch["worker"] == "front_end":
        write_front_end(batch)
    else:
        work(batch, Worker(batch).run, versions_of(["flaxtl", "jax", "flax", "numpy"]))


if __name__ == "__main__":
    main()
