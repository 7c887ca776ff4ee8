"""docs/parity.md, written from what the parity tests find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("pixels", "tokens", "waveforms")
_HEAD = """# Parity with the reference implementations

Written by `tests/test_parity.py` (its head says how).

## Networks

An error is the largest difference over the largest value, of logits, features and intermediate outputs, in float32;
1e-5 is allowed. *Recorded* cases are small random networks whose outputs were recorded once, so that they are compared
without torch; *live* ones run beside timm or transformers, full-size networks among them. *Pixels*, *tokens* and
*waveforms* are the largest error of what the network is given, over all preprocessing cases below of its type: the
reference's own processor against what flaxtl makes of the same file, picture, text or clip. Tokens are equal or not:
the number is that of texts whose ids, mask or types differ.

| family | source | type | case | recorded | live | pixels | tokens | waveforms |
|---|---|---|---|---|---|---|---|---|
"""
_PREPROCESSING = """
## Preprocessing

What the reference's processors make of a file of settings, against ours. Pixels are compared with transformers'
processors that compute with Pillow (`backend="pil"`; before version 5 those without `Fast`), to 1e-5 of the largest
value. `AutoImageProcessor` takes those that compute with torchvision where torchvision is installed; they resize
uint8 pictures with other roundings, which is the column *torchvision* (mean difference over mean value; where a crop is
larger than the picture by an odd number of pixels, torchvision also puts it one pixel further to the left or up, which
is left out here). Logarithms of quiet bands magnify what float32 loses, so spectrograms are allowed 3e-4 at a single
value. A case whose settings flaxtl refuses has none.

| kind | type | case | recorded | live | torchvision |
|---|---|---|---|---|---|
"""


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}" if value else "0"


_NETWORK = ("family", "source", "type", "name", "recorded", "live")
_INPUT = ("kind", "type", "name", "recorded", "live", "torchvision")
_FIGURES = ("recorded", "live", "torchvision")


def _said(text: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Returns what a page says by (name,) of a network or (kind, name) of preprocessing."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        names = _INPUT if cells[0] in KINDS else _NETWORK
        if not line.startswith("|") or len(cells) < len(names) or cells[2] in ("case", "type", "---"):
            continue
        row = {k: float(v) if k in _FIGURES else v for k, v in zip(names, cells) if v}
        place = (row.pop("kind"), row.pop("name")) if names is _INPUT else (row.pop("name"),)
        found.setdefault(place, {}).update(row)
    return found


def as_page(networks: Mapping[str, Any], inputs: Mapping[tuple[str, str], Any], source: Any, before: str = "") -> str:
    """Returns the page; figures that were not measured this time are those of the page before.

    Args:
        networks: by case: {"family", "type", "recorded", "live"}.
        inputs: by kind and case of preprocessing: {"type", "recorded", "live", "torchvision"}.
        source: case name → the reference's name.
        before: the page before.
    """
    said = _said(before)
    networks = {name: {**said.get((name,), {}), **row} for name, row in networks.items()}
    inputs = {place: {**said.get(place, {}), **row} for place, row in inputs.items()}
    worst: dict[tuple[str, str], float] = {}
    for (kind, _), row in inputs.items():
        found = [row[k] for k in ("recorded", "live") if row.get(k) is not None]
        if found:
            worst[kind, row["type"]] = max([*found, worst.get((kind, row["type"]), 0.0)])
    lines = []
    for name in sorted(networks, key=lambda n: (networks[n].get("family", ""), n)):
        row = networks[name]
        cells = [_shown(row.get(k)) for k in ("recorded", "live")]
        cells += [_shown(worst.get((kind, row.get("type", "")))) for kind in KINDS]
        about = [row.get("family", ""), source(name), row.get("type", ""), name]
        lines.append(f"| {' | '.join([*about, *cells])} |")
    told = [
        f"| {kind} | {row['type']} | {name} | "
        + " | ".join(_shown(row.get(k)) for k in ("recorded", "live", "torchvision"))
        + " |"
        for (kind, name), row in sorted(inputs.items(), key=lambda pair: (KINDS.index(pair[0][0]), pair[0][1]))
    ]
    return _HEAD + "\n".join(lines) + "\n" + _PREPROCESSING + "\n".join(told) + "\n"
