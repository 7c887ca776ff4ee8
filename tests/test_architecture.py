"""The map in docs/architecture.md is the code's own: imports run downwards, and every room is on the map."""

import ast
from pathlib import Path

import flaxtl

PACKAGE = Path(flaxtl.__file__).parent
# From the top down; a room may import those below it, and itself.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"demo"},
    {"strategies"},
    {"probe", "train", "report"},
    {"activations"},
    {"convert"},
    {"model"},
    {"pipeline", "modules"},
    {"checkpoint", "surgery", "freeze", "nets", "data", "metrics", "predictions"},
    {"card", "config"},
    {"data_settings", "probe_settings", "run_settings", "training_settings", "setting_values", "yaml_files"},
    {"setting_names"},
    {"paths", "places", "processes", "shares"},
    {"errors"},
]
LEVEL = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def _room(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flaxtl":
            parts = node.module.split(".")[1:]
            yield from ([parts[0]] if parts else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("flaxtl."))


def _files():
    return [f for f in PACKAGE.rglob("*.py") if f != PACKAGE / "__init__.py"]


def test_imports_run_downwards():
    upward = [
        f"{file.relative_to(PACKAGE)} imports {target}"
        for file in _files()
        for target in _imports(file)
        if LEVEL[target] < LEVEL[_room(file)]
    ]
    assert not upward


def test_every_room_is_on_the_map():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    missing = sorted({_room(f) for f in _files()} - {r for r in LEVEL if f"── {r}" in page})
    assert not missing


def test_orbax_is_behind_one_module():
    users = [f.relative_to(PACKAGE).as_posix() for f in _files() if "orbax" in "".join(_third_party(f))]
    assert len(users) == 1, users


def _third_party(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_files_are_short_and_functions_too():
    long_files = [f"{f.name}: {n}" for f in _files() if (n := len(f.read_text().splitlines())) > 450]
    assert not long_files
    for file in _files():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = len((ast.get_docstring(node) or "").splitlines())
                assert node.end_lineno - node.lineno + 1 - docstring <= 62, f"{file.name}: {node.name}"
