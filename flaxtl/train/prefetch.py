"""The next batches are made and put onto the devices while the present one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


def prefetched(items: Iterable[T], ahead: int = 1) -> Generator[T]:
    """Yields items that a thread takes from `items`, up to `ahead` of them before they are asked for.

    Args:
        items: what an error raises here is raised to the caller, in its turn.
        ahead: how many wait at most.

    Example:
        >>> list(prefetched(range(3)))
        [0, 1, 2]
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
    left = threading.Event()

    def offer(item: Any, error: BaseException | None = None) -> bool:
        while not left.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    thread = threading.Thread(target=_take, args=(items, offer), daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        left.set()
        thread.join()


def _take(items: Iterable[Any], offer: Callable[..., bool]) -> None:
    try:
        for item in items:
            if not offer(item):
                return
        offer(_END)
    except BaseException as error:  # noqa: BLE001 - it is raised again where the items are asked for
        offer(_END, error)
