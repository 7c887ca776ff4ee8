"""Starts several processes on this machine that train as one, and passes their output on.

    scripts/launch_local.py 2 -- flaxtl finetune photos/ --strategy full --out runs/photos

Each gets --coordinator, --processes and --process-id after its own words, and --devices virtual CPU devices. When one
of them ends badly the others are ended too. The exit code is that of the first that ended badly, else 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

GRACE = 5.0  # seconds between asking a process to end and ending it


def free_port() -> int:
    """Returns a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """The processes of one run.

    Args:
        command: the words that each is started with.
        number: how many; 0 starts the command once and as it is.
        devices: virtual CPU devices of each; 0 leaves the devices as they are.
    """

    def __init__(self, command: Sequence[str], number: int, devices: int) -> None:
        coordinator = f"127.0.0.1:{free_port()}"
        self.running: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        for index in range(max(number, 1)):
            words = ["--coordinator", coordinator, "--processes", str(number), "--process-id", str(index)]
            words = words if number else []
            process = subprocess.Popen(
                [*command, *words],
                env=_environment(devices),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                encoding="utf-8",
            )
            self.running.append(process)
            self._pass_on(process, index)

    def _pass_on(self, process: subprocess.Popen[str], index: int) -> None:
        """The first process's output is the run's; what others say is marked with their number, on stderr."""
        mark = "" if index == 0 else f"[{index}] "
        for source, target in (
            (process.stdout, sys.stdout if index == 0 else sys.stderr),
            (process.stderr, sys.stderr),
        ):
            reader = threading.Thread(target=_copy, args=(source, target, mark), daemon=True)
            reader.start()
            self._readers.append(reader)

    def wait(self) -> int:
        """Waits for all, and returns the exit code; when one ends badly the others are ended."""
        code = 0
        while code == 0 and any(process.poll() is None for process in self.running):
            time.sleep(0.1)
            code = next((p.returncode for p in self.running if p.poll() not in (None, 0)), 0)
        code = code or next((p.returncode for p in self.running if p.returncode), 0)
        self.end()
        for reader in self._readers:
            reader.join(GRACE)
        return code

    def ask(self) -> None:
        """Asks every process to keep its state and end."""
        for process in self.running:
            if process.poll() is None:
                process.terminate()

    def end(self) -> None:
        """Waits a moment for those that still run, for one may be about to say what happened, and ends them."""
        until = time.monotonic() + GRACE
        while time.monotonic() < until and any(process.poll() is None for process in self.running):
            time.sleep(0.1)
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()


def _environment(devices: int) -> dict[str, str]:
    changed = dict(os.environ)
    if devices:
        given = [w for w in changed.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in w]
        changed["XLA_FLAGS"] = " ".join([*given, f"--xla_force_host_platform_device_count={devices}"])
        changed["JAX_PLATFORMS"] = "cpu"
    return changed


def _copy(source: IO[str], target: IO[str], mark: str) -> None:
    for line in source:
        if line.startswith("[Gloo] Rank"):  # what the network says of itself, on stdout
            continue
        target.write(mark + line)
        target.flush()


def divided(words: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Returns the words before and after "--"."""
    everything = list(sys.argv[1:] if words is None else words)
    middle = everything.index("--") if "--" in everything else len(everything)
    return everything[:middle], everything[middle + 1 :]


def exit_code(code: int) -> int:
    """Returns a process's end as a shell tells it: 128 + the number of the signal that ended it."""
    return 128 - code if code < 0 else code


def main(words: Sequence[str] | None = None) -> int:
    """Starts the processes and waits for them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.usage = "%(prog)s NUMBER [--devices N] -- COMMAND ..."
    parser.add_argument("number", type=int, help="how many processes")
    parser.add_argument("--devices", type=int, default=1, help="virtual CPU devices of each; 0: the machine's own")
    own, command = divided(words)
    given = parser.parse_args(own)
    if given.number < 1 or not command:
        parser.error("give a number of processes, --, and the command that each runs")
    together = Processes(command, given.number, given.devices)

    def passed_on(*_: Any) -> None:
        together.ask()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, passed_on)
    return exit_code(together.wait())


if __name__ == "__main__":
    sys.exit(main())
