"""What happens when the machine is taken away: SIGTERM asks the run to save its state and to end."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator

from flaxtl import processes

_asked = threading.Event()
_polls = itertools.count()


@contextlib.contextmanager
def noticed() -> Iterator[None]:
    """Lets SIGTERM ask for an end instead of ending the process, while the block runs.

    Of several processes JAX itself takes notice, for all of them together.
    """
    _asked.clear()
    if processes.count() > 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: _asked.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def asked() -> bool:
    """Returns whether to save and end now; to be called once a step, in every process alike.

    All processes of a run get the same answer at the same step.

    Example:
        >>> asked()
        False
    """
    if processes.count() == 1:
        return _asked.is_set()
    from jax.experimental import multihost_utils

    return bool(multihost_utils.reached_preemption_sync_point(next(_polls)))
