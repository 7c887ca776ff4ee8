"""Interrupts a training run of several processes at random moments, again and again, and demands that nothing is lost.

    scripts/torture.py --times 20 --out runs/torture -- flaxtl finetune photos/ --strategy full --epochs 50

First the command runs undisturbed. Then, for each kind of accident and each time, it runs anew with another --out; at a
random moment one process is killed (kill -9), asked to end (SIGTERM), or stopped (SIGSTOP); every process must have
ended soon after (a stopped one's peers by --peer-timeout); and what --resume makes of it must equal the undisturbed
run: the model to the bit, the metrics to the last digit.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch_local import Processes, divided, exit_code

ACCIDENTS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
SPEED = ("examples_per_second", "step_seconds", "data_wait", "flops_per_second", "mfu")
MARGIN = 15.0  # seconds beyond the time-out in which all must have ended


class Torture:
    """One command and its undisturbed run.

    Args:
        command: without --out and --peer-timeout.
        out: where the runs are kept.
        processes: how many train together.
        devices: virtual CPU devices of each.
        timeout: seconds that a process waits for its peers.
        seed: of the moments and victims.
    """

    def __init__(
        self, command: Sequence[str], out: Path, *, processes: int, devices: int, timeout: float, seed: int
    ) -> None:
        self._command, self._out, self._number, self._devices = list(command), out, processes, devices
        self._timeout, self._random = timeout, random.Random(seed)
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        self._demand(self._start("whole").wait() == 0, "the undisturbed run ended badly")
        self._seconds = time.monotonic() - began

    def accident(self, name: str, number: int) -> dict[str, Any]:
        """Lets one accident happen and returns what it came to; raises if something was lost."""
        run = f"{name}_{number}"
        together = self._start(run)
        victim = self._random.randrange(self._number)
        step = self._moment(run, together)
        together.running[victim].send_signal(ACCIDENTS[name])
        codes, seconds = self._ended(together, victim if name == "stop" else None)
        if name == "term":
            self._demand(set(codes) == {0}, f"{run}: SIGTERM ended it with {codes}")
        self._demand(seconds <= self._timeout + MARGIN, f"{run}: it took {seconds:.0f} s until all had ended")
        self._demand(self._start(run, "--resume").wait() == 0, f"{run}: it could not be resumed")
        self._demand(self._same(run), f"{run}: what came out is not what the undisturbed run gave")
        shutil.rmtree(self._out / run)
        return {"accident": name, "victim": victim, "step": step, "codes": codes, "seconds": round(seconds, 1)}

    def _start(self, run: str, *more: str) -> Processes:
        words = [*self._command, "--out", str(self._out / run), "--peer-timeout", str(self._timeout), *more]
        return Processes(words, self._number, self._devices)

    def _moment(self, run: str, together: Processes) -> int:
        """Waits for a random moment: one of the steps that metrics tell of, or a while before the first."""
        lines = len((self._out / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        wanted, file = self._random.randrange(lines), self._out / run / "metrics.jsonl"
        until = time.monotonic() + 10 * self._seconds + 60.0
        while all(process.poll() is None for process in together.running) and time.monotonic() < until:
            if (len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0) >= wanted:
                break
            time.sleep(0.01)
        if wanted == 0:
            time.sleep(self._random.uniform(0.0, 0.6 * self._seconds))
        return wanted

    def _ended(self, together: Processes, stopped: int | None) -> tuple[list[int], float]:
        """Waits until all but a stopped process have ended by themselves, and ends that one."""
        began = time.monotonic()
        others = [process for index, process in enumerate(together.running) if index != stopped]
        while any(process.poll() is None for process in others) and time.monotonic() - began < self._timeout + MARGIN:
            time.sleep(0.05)
        seconds = time.monotonic() - began
        codes = [exit_code(process.returncode) for process in others if process.returncode is not None]
        for process in together.running:
            process.kill()
            process.wait()
        return codes, seconds

    def _same(self, run: str) -> bool:
        import flaxtl

        found, whole = (flaxtl.load(self._out / name).variables for name in (run, "whole"))
        return _bits(found) == _bits(whole) and self._metrics(run) == self._metrics("whole")

    def _metrics(self, run: str) -> list[dict[str, Any]]:
        lines = (self._out / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [{k: v for k, v in json.loads(line).items() if k not in SPEED} for line in lines]

    @staticmethod
    def _demand(right: bool, sentence: str) -> None:
        if not right:
            raise SystemExit(f"torture: {sentence}.")


def _bits(tree: Any, name: str = "") -> dict[str, bytes]:
    if isinstance(tree, dict):
        return {k: v for key, part in tree.items() for k, v in _bits(part, f"{name}/{key}").items()}
    import numpy as np

    return {name: np.asarray(tree).tobytes()}


def main(words: Sequence[str] | None = None) -> int:
    """Runs the accidents and prints one line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.usage = "%(prog)s [--times N] [--processes N] [--devices N] --out DIR -- COMMAND ..."
    parser.add_argument("--times", type=int, default=20, help="of each accident")
    parser.add_argument("--only", choices=ACCIDENTS, action="append", help="one kind of accident; may be repeated")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1, help="virtual CPU devices of each process")
    parser.add_argument("--peer-timeout", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    own, command = divided(words)
    given = parser.parse_args(own)
    torture = Torture(
        command,
        given.out,
        processes=given.processes,
        devices=given.devices,
        timeout=given.peer_timeout,
        seed=given.seed,
    )
    for number in range(given.times):
        for name in given.only or ACCIDENTS:
            print(json.dumps(torture.accident(name, number)), flush=True)
    print(f"nothing was lost in {given.times * len(given.only or ACCIDENTS)} accidents")
    return 0


if __name__ == "__main__":
    sys.exit(main())
