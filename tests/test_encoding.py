"""Text is UTF-8 whatever the locale says: files, the terminal, names that are no UTF-8, and machines without a home."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny

import flaxtl
from flaxtl.activations import Store
from flaxtl.cli import main
from flaxtl.cli.printing import ascii_json
from flaxtl.errors import ConfigError
from flaxtl.places import cache_or_temporary, cache_root, expanded

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
            if (
                owner in ("os", "pillow", "Image", "zipfile", "archive", "rasterio", "wave", "tensorstore")
                and name == "open"
            ):
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


# The environment

TRAIN = """
import sys
import flaxtl, tiny
from flaxtl.cli import main
inputs, targets = tiny.pictures(per_class=2)
source = flaxtl.data.from_arrays(inputs, targets, labels=["\\u00dcberweisung", "caf\\u00e9", "\\u304c\\u304e"])
result = flaxtl.finetune(tiny.model(), source, strategy="head", out=sys.argv[1])
result.model.save(sys.argv[1] + "-saved")
assert flaxtl.load(sys.argv[1] + "-saved").card.labels == tuple(source.labels)
assert "\\u00dcberweisung" in open(sys.argv[1] + "/report.html", encoding="utf-8").read()
print(main(["predict", sys.argv[1], sys.argv[2], "--format", "json"]))
print(main(["predict", sys.argv[1], sys.argv[2]]))
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def ran(code, *words, **environment):
    """Runs Python code in a process of its own; returns what it printed."""
    found = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **environment}
    kept = {name: value for name, value in found.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, env=kept, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(ASCII, id="ascii"),
        pytest.param({"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}, id="cp1252", marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "ascii:strict"}, id="strict", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_classes_beyond_ascii_is_trained_kept_and_asked_in_any_locale(environment, tmp_path):
    tiny.folder(tmp_path / "new", per_class=1)
    printed = ran(TRAIN, tmp_path / "run", tmp_path / "new", **environment)
    rows, _ = json.JSONDecoder().raw_decode(printed.decode(environment.get("PYTHONIOENCODING", "ascii").split(":")[0]))
    assert set(rows[0]["probabilities"]) == {"Überweisung", "café", "がぎ"}


HOMELESS = """
import os, pwd, sys
os.environ.pop("HOME", None), os.environ.pop("XDG_CACHE_HOME", None)
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from flaxtl.cli import main
codes = [main(words.split(" ")) for words in sys.argv[1:]]
print(codes)
"""


def test_commands_work_without_a_home(tmp_path):
    tiny.folder(tmp_path / "new", per_class=2)
    tiny.model().save(tmp_path / "model")
    words = [
        f"finetune {tmp_path}/new --from {tmp_path}/model --strategy head --out {tmp_path}/run",
        f"predict {tmp_path}/run {tmp_path}/new",
        f"data inspect {tmp_path}/new",
        "predict ~/model x.png",
    ]
    printed = ran(HOMELESS, *words, XDG_CACHE_HOME=None, JAX_COMPILATION_CACHE_DIR=None)
    assert printed.decode().strip().endswith("[0, 0, 0, 2]")
    assert not list(tmp_path.glob("~"))


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_run_on_names_that_are_no_utf8(tmp_path, capsys):
    place = tiny.folder(tmp_path / "new", per_class=2)
    for folder in list(place.iterdir()):
        for number, file in enumerate(folder.iterdir()):
            os.rename(file, os.fsencode(folder) + b"/f\xfcnf%d.png" % number)
    os.rename(os.fsencode(place / "a"), os.fsencode(place) + b"/gr\xfcn")
    tiny.model().save(tmp_path / "model")
    run = os.fsdecode(os.fsencode(tmp_path) + b"/r\xfcn")
    words = [str(place), "--from", str(tmp_path / "model"), "--strategy", "head"]
    assert main(["finetune", *words, "--out", str(tmp_path / "run"), "--test", str(place)]) == 0
    assert "6 file names are not UTF-8" in capsys.readouterr().out
    kept = (tmp_path / "run" / "predictions.csv").read_text(encoding="utf-8")
    assert "f\\xfcnf0.png" in kept
    assert "gr\\xfcn" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "gr\\xfcn" in json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["classes"]
    assert main(["predict", str(tmp_path / "run"), str(place), "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 6
    assert main(["finetune", *words, "--out", run]) in (0, 2)


def test_json_for_a_terminal_that_is_not_utf8_means_the_same():
    value = {"café": ["がぎ", "\U0001f600", "plain"]}
    text = ascii_json(json.dumps(value, ensure_ascii=False))
    assert text.isascii()
    assert json.loads(text) == value


@pytest.mark.parametrize("cache", ["absent", "a file", "read-only"])
def test_a_cache_that_cannot_be_written_is_none(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_root() == tmp_path / "cache" / "flaxtl"
    if cache == "absent":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif cache == "a file":
        (tmp_path / "file").write_text("", encoding="utf-8")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:
        monkeypatch.setattr(
            tempfile, "TemporaryFile", lambda **_: (_ for _ in ()).throw(PermissionError(30, "read-only"))
        )
    assert cache_root() is None
    assert cache_or_temporary().is_dir()
    with Store.of_user() as store:
        assert store.folder.is_dir()
        assert "flaxtl-activations-" in str(store.folder)


def test_a_path_that_cannot_be_expanded_or_named_is_a_sentence(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    assert str(expanded("plain")) == "plain"
    with pytest.raises(ConfigError, match="has characters that no file can be named with"):
        expanded("half \ud800")
    monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(ConfigError, match="home directory, which ~ in '~/x' stands for, is unknown"):
        expanded("~/x")


def test_only_one_module_asks_for_the_home_directory():
    users = [f.name for f in CODE if any(w in f.read_text(encoding="utf-8") for w in (".expanduser(", "Path.home("))]
    assert users == ["places.py"]
