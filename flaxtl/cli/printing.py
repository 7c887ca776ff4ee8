"""What a command prints: on terminals and pipes of any encoding, without a crash and without losing what JSON means."""

from __future__ import annotations

import json
import re
import sys
from typing import Any


def prepare_streams() -> None:
    r"""Lets output hold characters that the locale cannot write; they appear as \N{...} escapes such as \xdc."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a notebook's or a test's stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """Prints plain data as JSON; see `print_json_text`."""
    print_json_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_text(text: str) -> None:
    """Prints JSON as it is where the stream is UTF-8, else with JSON's own escapes, which every reader understands."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-")
    print(text if encoding in ("utf-8", "utf8") else ascii_json(text), end="")


def ascii_json(text: str) -> str:
    r"""Returns JSON in ASCII: other characters, which only occur within its strings, become \uXXXX.

    Example:
        >>> print(ascii_json('{"caf\N{LATIN SMALL LETTER E WITH ACUTE}": 1}'))
        {"caf\u00e9": 1}
    """
    return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
