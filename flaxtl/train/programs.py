"""What a compiled program says of itself: the memory that it takes, and what its devices exchange."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax

_COLLECTIVE = re.compile(
    r"= (?P<shapes>\(.*?\)|\S+) "
    r"(?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_WHILE = re.compile(r" while\(.*body=%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device.

    Attributes:
        arguments: what the program is given.
        outputs: what it returns in memory of its own, not in that of what it was given.
        temporary: what it takes besides while it runs.
    """

    arguments: int
    outputs: int
    temporary: int

    @property
    def peak(self) -> int:
        """All of it."""
        return self.arguments + self.outputs + self.temporary


def memory_of(program: jax.stages.Compiled) -> Memory | None:
    """Returns the memory that a compiled program takes on each device; None where the platform does not say.

    Example:
        >>> program = jax.jit(lambda x: x + 1).lower(jax.numpy.zeros(256)).compile()
        >>> memory_of(program).arguments
        1024
    """
    found: Any = program.memory_analysis()
    if found is None:
        return None
    given, own = found.argument_size_in_bytes, max(found.output_size_in_bytes - found.alias_size_in_bytes, 0)
    # On TPU the temporary memory is told only as a part of the peak.
    besides = getattr(found, "peak_memory_in_bytes", 0) - given - own
    return Memory(int(given), int(own), int(max(found.temp_size_in_bytes, besides)))


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Collectives of one kind in a step.

    Attributes:
        kind: such as all-reduce.
        times: how many.
        nbytes: of their results on one device, all together.
    """

    kind: str
    times: int
    nbytes: int


def exchanges(text: str) -> tuple[Exchange, ...]:
    """Returns the collectives of a compiled program's text; those in a loop count as often as it runs.

    Example:
        >>> exchanges('ENTRY %main (a: f32[4]) -> f32[4] {\\n %r = f32[4]{0} all-reduce(%a), to_apply=%sum\\n}')
        (Exchange(kind='all-reduce', times=1, nbytes=16),)
    """
    lines = _computations(text)
    runs = _runs(lines)
    times: dict[str, int] = {}
    nbytes: dict[str, int] = {}
    for name, body in lines.items():
        for line in body:
            found = _COLLECTIVE.search(line)
            if found:
                kind, often = found["kind"], runs.get(name, 1)
                times[kind] = times.get(kind, 0) + often
                nbytes[kind] = nbytes.get(kind, 0) + often * _bytes(found["shapes"], "-start(" in line)
    return tuple(Exchange(kind, times[kind], nbytes[kind]) for kind in sorted(times))


def _computations(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head:
            name = head[1]
        found.setdefault(name, []).append(line)
    return found


def _runs(lines: dict[str, list[str]]) -> dict[str, int]:
    """Returns how often the body of each loop runs, loops within loops multiplied."""
    inside: dict[str, tuple[str, int]] = {}
    for name, body in lines.items():
        for line in body:
            loop = _WHILE.search(line)
            if loop:
                trips = _TRIPS.search(line)
                inside[loop[1]] = (name, int(trips[1]) if trips else 1)

    def runs(name: str) -> int:
        if name not in inside:
            return 1
        outer, trips = inside[name]
        return trips * runs(outer)

    return {name: runs(name) for name in lines}


def _bytes(shapes: str, started: bool) -> int:
    """Returns the bytes of shapes such as (f32[4]{0}, bf16[2,3]); what has only started names its input too."""
    sizes = []
    for kind, dimensions in _SHAPE.findall(shapes):
        digits = re.search(r"\d+", kind)
        bits = 8 if digits is None else int(digits[0])
        count = 1
        for side in filter(None, dimensions.split(",")):
            count *= int(side)
        sizes.append(count * max(bits, 8) // 8)
    return max(sizes, default=0) if started else sum(sizes)
