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
    """Random seed of subsets, order, augmentation, dropout and initial values."""
    resume: bool = False
    """Continue the run that the directory holds, to the same bits as if it had not been interrupted."""
    overwrite: bool = False
    """Delete the run that the directory holds."""
    json: bool = False
    """Print the result as JSON."""
    cache: str = "auto"
    """Where activations of frozen layers are cached for later runs: a directory, auto for the user's cache, or off."""
    cache_gigabytes: float = 10.0
    """Size limit of the cache; least recently used entries are evicted."""
    parallel: Parallel = "jit"
    """How several devices train as one, with the results of one: jit spreads the batch, fsdp also the parameters, pmap
    maps one device's program over all."""
    microbatch: int | None = None
    """Gradient-accumulation microbatch size: each batch is split into microbatches of so many examples, to save memory.
    The gradient is that of the whole batch; batch statistics are those of each microbatch."""
    memory_gigabytes: float | None = None
    """Memory limit of each device (on a CPU: of this process); a batch that needs more is split as by --microbatch. By
    default what is free."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes that train as one, or auto on a TPU slice, Slurm or Kubernetes."""
    processes: int | None = None
    """How many there are, where the coordinator is not auto."""
    process_id: int | None = None
    """Which of them this is, from 0."""
    peer_timeout: float = 600.0
    """Seconds to wait for the other processes before giving up."""
