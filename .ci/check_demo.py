"""Holds the demo's figures to what README promises: 94 %, and five points above both controls, spread included."""

import json
import sys
from pathlib import Path

report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
results = {r["method"]: r for r in report["results"]}
best = max((results["head"], results["full"]), key=lambda r: r["mean"])
print(json.dumps(report["results"], indent=1))
assert set(results) == {"head", "full", "scratch", "pixels"}
assert best["mean"] >= 0.94, best
for control in ("scratch", "pixels"):
    gap = best["mean"] - best["std"] - (results[control]["mean"] + results[control]["std"])
    print(f"{best['method']} over {control}, spread included: {100 * gap:.1f} points")
    assert gap >= 0.05, (best, results[control])
