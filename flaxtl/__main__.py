"""Runs the command line where the `flaxtl` command is not on the path: `python -m flaxtl`."""

from __future__ import annotations

import sys

from flaxtl.cli import main

if __name__ == "__main__":
    sys.exit(main())
