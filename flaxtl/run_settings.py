"""The settings of where a run is kept and on what it runs: directory, cache, devices, processes.

They are part of `config`'s commands, and like it they import nothing that is heavy.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Parallel = Literal["jit", "pmap", "fsdp"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a run is kept and how it ends."""

    seed: int = 0
    """Of everything that is drawn: subsets, order, augmentation, dropout, initial values."""
    resume: bool = False
    """Go on with the run that the directory holds."""
    overwrite: bool = False
    """Delete the run that the directory holds."""
    json: bool = False
    """Print the result as JSON."""
    cache: str = "auto"
    """Where the activations of frozen parts are kept for the next run: a directory, auto for the user's own cache, off
    for nowhere."""
    cache_gigabytes: float = 10.0
    """What the cache may grow to; what was not used for longest goes first."""
    parallel: Parallel = "jit"
    """How several devices train as one, with the results of one: jit spreads the batch, fsdp also the parameters, pmap
    maps one device's program over all."""
    microbatch: int | None = None
    """Work off each batch in parts of this many examples, to save memory; what is learnt stays that of the whole batch
    (batch statistics are those of each part)."""
    memory_gigabytes: float | None = None
    """What each device may hold (on a CPU: this process): a batch that needs more is worked off in parts, as by
    --microbatch. By default what is free."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes that train as one, or auto on a TPU slice, Slurm or Kubernetes."""
    processes: int | None = None
    """How many there are, where the coordinator is not auto."""
    process_id: int | None = None
    """Which of them this is, from 0."""
    peer_timeout: float = 600.0
    """Seconds to wait for the other processes before giving up."""
