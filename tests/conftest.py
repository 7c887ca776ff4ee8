"""What tests share: the development data, which is only there beside a developer's checkout."""

import os
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
