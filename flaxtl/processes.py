"""Several processes that train as one: which of them this is, waiting for the others, noticing that they are gone.

A run of one process is the same with nothing to wait for. Only the first process writes and talks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from flaxtl.errors import ConfigError, FlaxtlError, Preempted

PEER_LOST = 75  # EX_TEMPFAIL of sysexits.h: try again
_USAGE_ERROR = 2
AUTOMATIC = "auto"


def count() -> int:
    """Returns how many processes train together.

    Example:
        >>> count(), index(), first()
        (1, 0, True)
    """
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Returns which of them this is, from 0."""
    import jax

    return jax.process_index() if jax.distributed.is_initialized() else 0


def first() -> bool:
    """Returns whether this is the process that writes and talks."""
    return index() == 0


def together(what: str) -> None:
    """Waits until every process is here; `what` says in one word where."""
    if count() > 1:
        from jax.experimental import multihost_utils

        with waiting(what):
            multihost_utils.sync_global_devices(what)


def least(value: float) -> float:
    """Returns the smallest of a value that each process gives.

    Example:
        >>> least(2.5)
        2.5
    """
    if count() == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    with waiting("a decision"):
        return float(np.min(multihost_utils.process_allgather(np.array(value))))


def most(value: float) -> float:
    """Returns the largest of a value that each process gives.

    Example:
        >>> most(2.5)
        2.5
    """
    return -least(-value)


@contextlib.contextmanager
def connected(
    coordinator: str | None,
    processes: int | None = None,
    number: int | None = None,
    timeout: float = 600.0,
    wording: Callable[[str], str] = str,
) -> Iterator[None]:
    """Connects this process with the others of its run, and leaves them at the end.

    An error of one process ends it at once, for the others may be waiting for it and would never leave together.

    Args:
        coordinator: HOST:PORT of the first process; "auto" asks the TPU slice, Slurm, or Kubernetes; None does nothing.
        processes: how many there are.
        number: which this is.
        timeout: seconds that this process waits for the others before it gives up.
        wording: how the message of an error is written to the terminal.

    Raises:
        ConfigError: the settings do not fit together.
    """
    if coordinator is None:
        if processes not in (None, 1) or number not in (None, 0):
            raise ConfigError("`processes` and `process_id` need `coordinator='HOST:PORT'`, of the first process.")
        yield
        return
    _connect(coordinator, processes, number, timeout)
    try:
        yield
    except Preempted:
        _leave()
        raise
    except BaseException as error:  # noqa: BLE001 - the process ends with it
        _fail(error, wording)
    else:
        _leave()


def _connect(coordinator: str, processes: int | None, number: int | None, timeout: float) -> None:
    if coordinator != AUTOMATIC and (processes is None or number is None or not 0 <= number < processes):
        raise ConfigError(
            f"`coordinator={coordinator!r}` needs `processes` and `process_id`, from 0 to N - 1; "
            f"found {processes} and {number}."
        )
    if timeout <= 0:
        raise ConfigError(f"`peer_timeout` is {timeout}; expected seconds, more than 0.")
    import jax

    try:
        jax.distributed.initialize(
            None if coordinator == AUTOMATIC else coordinator,
            num_processes=processes,
            process_id=number,
            initialization_timeout=max(1, int(timeout)),
            # Longer than our own watch, which says what happened: where that does not look, such as during a
            # compilation, JAX itself ends a process whose peers are gone. A peer's last sign of life may be half this
            # time old when it stops, so that JAX may act after the other half already.
            heartbeat_timeout_seconds=2 * int(timeout) + 20,
            shutdown_timeout_seconds=int(timeout) + 10,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"The other processes were not met at `coordinator={coordinator!r}`: {reason}. "
            "Start all of them, with the same coordinator, within `peer_timeout`."
        ) from error
    _WATCH.start(timeout)


def _leave() -> None:
    import jax

    with waiting("the end"):
        jax.distributed.shutdown()
    _WATCH.stop()


def _fail(error: BaseException, wording: Callable[[str], str]) -> None:
    sys.stdout.flush()
    if isinstance(error, FlaxtlError):
        _say(wording(str(error)))
        code = _USAGE_ERROR
    else:
        traceback.print_exception(error)
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _say(text: str) -> None:
    print(f"flaxtl: process {index()}: {text}", file=sys.stderr, flush=True)


def _give_up(what: str, why: str) -> None:
    _say(f"{why} at {what}: one of the processes is stuck or dead. Start all of them again, and resume the run.")
    os._exit(PEER_LOST)


class _Watch:
    """A thread that ends the process when it has waited for the others too long."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._what, self._times = "", 1.0
        self._timeout: float | None = None

    def start(self, timeout: float) -> None:
        self._timeout = timeout
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._timeout = None

    def _run(self) -> None:
        while (timeout := self._timeout) is not None:
            until, what = self._until, self._what
            if until is not None and time.monotonic() > until:
                _give_up(what, f"The others did not come within {timeout * self._times:g} s")
            time.sleep(min(0.2, timeout / 4))

    @contextlib.contextmanager
    def over(self, what: str, times: float) -> Iterator[None]:
        if self._timeout is not None:
            self._what, self._times = what, times
            self._until = time.monotonic() + times * self._timeout
        try:
            yield
        finally:
            self._until = None


_WATCH = _Watch()


@contextlib.contextmanager
def waiting(what: str, *, times: float = 1.0) -> Iterator[None]:
    """Marks where this process waits for the others: if they do not come in time it says so and ends.

    Args:
        what: it waits at.
        times: how many times the time-out they have.
    """
    if count() == 1:
        yield
        return
    import jax

    with _WATCH.over(what, times):
        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if not _of_the_network(error):
                raise
            _give_up(what, f"The connection broke ({str(error).splitlines()[0][:150]})")


def _of_the_network(error: Exception) -> bool:
    """Returns whether an error is what the network says of a peer that has gone; JAX has no class for these."""
    text = str(error)
    return any(word in text for word in ("Gloo", "NCCL", "Connection", "coordination", "heartbeat", "DEADLINE"))
