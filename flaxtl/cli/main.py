"""Reads the command line, runs one command, and turns what a user can mend into one sentence and exit code 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from flaxtl import config as configs
from flaxtl.cli.printing import prepare_streams
from flaxtl.errors import ConfigError, FlaxtlError, Preempted, did_you_mean
from flaxtl.places import cache_root, prepare_home

USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    Args:
        arguments: without the program's name; `sys.argv[1:]` if None.

    Example:
        >>> main(['--version'])  # doctest: +ELLIPSIS
        flaxtl ...
        0
    """
    prepare_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    try:
        code = _run(words)
        sys.stdout.flush()  # here, where a reader that has gone is noticed
        return code
    except Preempted as stopped:
        print(f"flaxtl: {stopped}", file=sys.stderr)
        return 0
    except FlaxtlError as error:
        if debug:
            traceback.print_exc()
        print(f"flaxtl: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            traceback.print_exc()
        place = f"{error.filename}: " if error.filename else ""
        print(f"flaxtl: {place}{error.strerror or error}. Check the place and its permissions.", file=sys.stderr)
        return USAGE_ERROR
    except SystemExit as ended:  # tyro has printed its help or its message
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        print("flaxtl: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"flaxtl {version('flaxtl')}")
        return 0
    name, rest = words[0], words[1:]
    if name not in configs.COMMANDS:
        raise ConfigError(f"There is no command {name!r}.{did_you_mean(name, configs.COMMANDS)} See flaxtl --help.")
    config = _config(name, rest)
    prepare_environment()
    from flaxtl.cli import commands

    return getattr(commands, name.replace("-", "_"))(config)


def _config(name: str, words: list[str]) -> Any:
    """Reads a command's settings: defaults, then --config FILE, then the other arguments."""
    kind = configs.COMMANDS[name]
    rest: list[str] = []
    default: Any = None
    coming = iter(words)
    for word in coming:
        option, equals, value = word.partition("=")
        if option != "--config":
            rest.append(word)
            continue
        file = value if equals else next(coming, "")
        if not file or default is not None:
            raise ConfigError("--config needs the name of one YAML file after it.")
        default = configs.load(kind, file)
    return configs.parse(kind, rest, program=f"flaxtl {name}", default=default)


def usage() -> str:
    """Returns the help of the whole program.

    Example:
        >>> 'finetune' in usage()
        True
    """
    lines = ["usage: flaxtl COMMAND [OPTIONS]", "", "Transfer learning for JAX and Flax.", "", "commands:"]
    for name, kind in configs.COMMANDS.items():
        lines.append(f"  {name:<10} {(kind.__doc__ or '').splitlines()[0]}")
    lines += [
        "",
        "flaxtl COMMAND --help shows a command's options. Every command takes --config FILE (YAML; options",
        "on the command line come on top) and --debug (show the traceback of an error).",
        "",
    ]
    return "\n".join(lines)


def prepare_environment() -> None:
    """Sets up the process for a command: quiet libraries and a compilation cache that outlives it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    import logging

    import jax

    logging.getLogger("absl").setLevel(logging.ERROR)
    # After a failed write Orbax leaves tasks whose errors nobody fetches; ours has told of the failure.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    prepare_home()
    cache = cache_root()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
