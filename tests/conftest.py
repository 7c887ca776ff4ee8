"""What tests share: the development data, which is only there beside a developer's checkout."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared():
    """The folder of real weights and data; the test is skipped where it is absent."""
    if SHARED.is_dir():
        return SHARED
    if os.environ.get("FLAXTL_REQUIRE_SHARED"):
        pytest.fail(f"{SHARED} is required by FLAXTL_REQUIRE_SHARED but absent")
    pytest.skip("needs the development data in ../shared, which is not part of the package")


def pytest_configure(config):
    """What two tests compile alike is compiled once; read by JAX when it is imported, and by subprocesses."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        config.own_compilation_cache = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="flaxtl-xla-")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # Most programs of tests run a few times, so a quick compilation is worth more than quick code.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    # The cache of activations, too, is the tests' own and not their user's.
    config.own_cache = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="flaxtl-cache-")


def pytest_unconfigure(config):
    shutil.rmtree(config.own_cache, ignore_errors=True)
    if hasattr(config, "own_compilation_cache"):
        shutil.rmtree(config.own_compilation_cache, ignore_errors=True)
