"""The notebook for TPUs is a notebook, and runs as it stands on eight devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "tpu.ipynb"
EIGHT = "--xla_force_host_platform_device_count=8"


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text())


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_is_a_notebook_of_version_four_without_outputs(notebook):
    assert notebook["nbformat"] == 4
    assert {"kernelspec", "language_info"} <= set(notebook["metadata"])
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert {"cell_type", "id", "metadata", "source"} <= set(cell)
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
    assert sources(notebook, "markdown")[0].startswith("# ")


@pytest.mark.slow
def test_its_cells_run_on_eight_devices(notebook):
    code = "\n\n".join(sources(notebook, "code"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "XLA_FLAGS": EIGHT, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("8 devices")
    assert done.stdout.count("PmapEngine: loss") == 2
