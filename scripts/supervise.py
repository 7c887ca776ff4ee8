"""Runs a training command, and starts all of its processes again from the last good state when one of them is lost.

    scripts/supervise.py 2 -- flaxtl finetune photos/ --strategy full --out runs/photos
    scripts/supervise.py 0 -- flaxtl finetune photos/ --out /shared/run --coordinator host0:1234 --processes 8 \\
        --process-id 3

The first form starts processes on this machine (see launch_local.py); the second, with 0, runs the command as it is, on
each of several machines. A lost process, or one that waits for a lost one (--peer-timeout), ends with a code other
than 0; then everything is started again with --resume. What only a person can mend (code 2) ends the supervision, and
so does SIGTERM, which is passed on.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from launch_local import Processes, divided, exit_code

USAGE_ERROR = 2


class Supervision:
    """A command that is kept running.

    Args:
        command: its words.
        number: of processes; 0 for one, as the command says.
        devices: virtual CPU devices of each process; 0 leaves the machine's.
        restarts: how often it is started again at most.
    """

    def __init__(self, command: Sequence[str], number: int, devices: int, restarts: int) -> None:
        self._command, self._number, self._devices, self._restarts = list(command), number, devices, restarts
        self._together: Processes | None = None
        self._asked = False

    def run(self) -> int:
        """Runs until the command succeeds, cannot succeed, or has been started often enough; returns its code."""
        for attempt in range(self._restarts + 1):
            again = ["--resume"] if attempt and "--resume" not in self._command else []
            self._together = Processes([*self._command, *again], self._number, self._devices)
            code = exit_code(self._together.wait())
            if code in (0, USAGE_ERROR) or self._asked:
                return code
            if attempt < self._restarts:
                self._say(f"A process ended with code {code}. All are started again from the last good state.")
                time.sleep(1.0)
        self._say(f"It was started {self._restarts + 1} times and is given up. The states that were kept are whole.")
        return code

    def ask(self, *_: Any) -> None:
        """Passes a signal on: the state is kept, and nothing is started again."""
        self._asked = True
        if self._together is not None:
            self._together.ask()

    @staticmethod
    def _say(text: str) -> None:
        print(f"supervise: {text}", file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Supervises the command that comes after "--"."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.usage = "%(prog)s NUMBER [--devices N] [--restarts N] -- COMMAND ..."
    parser.add_argument("number", type=int, help="how many processes; 0: one, as the command says")
    parser.add_argument("--devices", type=int, default=0, help="virtual CPU devices of each; 0: the machine's own")
    parser.add_argument("--restarts", type=int, default=100, help="how often all are started again at most")
    own, command = divided(words)
    given = parser.parse_args(own)
    if given.number < 0 or not command:
        parser.error("give a number of processes, --, and the command")
    supervision = Supervision(command, given.number, given.devices, given.restarts)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervision.ask)
    return supervision.run()


if __name__ == "__main__":
    sys.exit(main())
