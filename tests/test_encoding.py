"""Text is UTF-8 whatever the locale says: files, the terminal, names that are no UTF-8, and machines without a home."""

import ast
from pathlib import Path

import pytest

import flaxtl

ROOT = Path(flaxtl.__file__).parent.parent
CODE = [*(ROOT / "flaxtl").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
_MODE = {"open": 1, "NamedTemporaryFile": 0, "TemporaryFile": 0, "fdopen": 1}


def _mode(call, place):
    given = next((k.value for k in call.keywords if k.arg == "mode"), None)
    given = given or (call.args[place] if len(call.args) > place else None)
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else ""


def without_encoding(source):
    """Returns the lines of Python code where text is read or written in the locale's encoding."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        keywords = {k.arg for k in call.keywords}
        method = isinstance(call.func, ast.Attribute)
        name = call.func.attr if method else getattr(call.func, "id", "")
        positional = {"read_text": 0, "write_text": 1, "TextIOWrapper": 1}.get(name)
        if "encoding" in keywords or None in keywords:
            continue
        if positional is not None and (method or name == "TextIOWrapper"):
            # A function of one's own that is called read_text takes no file of a Path.
            if len(call.args) <= positional:
                found.append(call.lineno)
        elif name in _MODE:
            owner = getattr(call.func.value, "id", "") if method else ""
            path_open = method and name == "open" and owner not in ("io", "codecs", "gzip", "bz2", "lzma")
            if owner in ("os", "pillow", "Image", "zipfile", "archive", "rasterio") and name == "open":
                continue
            mode = _mode(call, 0 if path_open else _MODE[name])
            temporary = name in ("NamedTemporaryFile", "TemporaryFile")
            if "b" not in mode and not (temporary and not mode):
                found.append(call.lineno)
        elif name in ("run", "Popen", "check_output", "call", "check_call") and keywords & {
            "text",
            "universal_newlines",
        }:
            found.append(call.lineno)
    return found


def test_no_text_is_read_or_written_in_the_locale_s_encoding():
    found = {str(file.relative_to(ROOT)): without_encoding(file.read_text(encoding="utf-8")) for file in CODE}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "open('x')",
        "open('x', 'w')",
        "path.open('a')",
        "path.read_text()",
        "path.write_text('x')",
        "io.TextIOWrapper(raw)",
        "tempfile.NamedTemporaryFile('w')",
        "subprocess.run(['ls'], text=True)",
    ],
)
def test_what_the_walk_over_the_code_finds(code):
    assert without_encoding(code) == [1]


@pytest.mark.parametrize(
    "code",
    [
        "open('x', 'rb')",
        "open('x', encoding='utf-8')",
        "path.open('ab')",
        "path.read_text('utf-8')",
        "os.open('x', 0)",
        "tempfile.NamedTemporaryFile()",
        "subprocess.run(['ls'], text=True, encoding='utf-8')",
    ],
)
def test_what_the_walk_over_the_code_lets_pass(code):
    assert without_encoding(code) == []
