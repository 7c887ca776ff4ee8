"""Where weights come from: the Hugging Face hub, URLs of fsspec, this machine; all end as files here."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from flaxtl.checkpoint import new_directory
from flaxtl.convert.readers import read_weights
from flaxtl.convert.readers.opening import PATTERNS
from flaxtl.convert.readers.slices import sha256
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError, listed
from flaxtl.places import cache_or_temporary, prepare_home

HUB = "hf:"
_NAME = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[^@\s]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*::?//")
# What lies beside weights and says what they are; in the folder itself, and one down.
_BESIDE = ("*.json", "*.txt", "*.csv", "*.model", "*/config.json")
_LARGEST_BESIDE = 64 << 20
_SHARD = re.compile(r"-\d+-of-\d+\.")
# What the hub's client, its HTTP library and fsspec's drivers raise differs with their versions.
_FAILURES = (Exception,)


def open_weights(source: str | Path) -> Weights:
    """Opens published weights wherever they are; they are fetched to this machine first if they are elsewhere.

    Args:
        source: "hf:owner/name@revision", a URL such as gs://bucket/folder, or a path.

    Raises:
        CheckpointError: they cannot be found, fetched or read.
    """
    name = str(source)
    if name.startswith(HUB):
        fetched = fetch(name)
        weights = read_weights(fetched.folder)
        origin = {**weights.origin, "source": f"{HUB}{fetched.repo}", "revision": fetched.commit}
        return dataclasses.replace(weights, origin=origin, notes=(*fetched.notes, *weights.notes))
    if is_url(name):
        weights = read_weights(copied(name))
        return dataclasses.replace(weights, origin={**weights.origin, "source": name})
    return read_weights(source)


def is_url(name: str) -> bool:
    """Says whether a name is a URL of fsspec.

    Example:
        >>> is_url('gs://bucket/model'), is_url('C:/model'), is_url('model')
        (True, False, False)
    """
    return _URL.match(name) is not None


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A repository of the hub on this machine.

    Attributes:
        folder: with its files.
        repo: owner/name.
        commit: the revision that they are of.
        notes: how it came here, where that matters.
    """

    folder: Path
    repo: str
    commit: str
    notes: tuple[str, ...] = ()


def fetch(name: str) -> Fetched:
    """Brings a hub repository's weights, and the settings beside them, into the hub's own cache.

    What is there already is taken from there without asking the hub; a name without a revision then means the
    revision that was fetched first. Interrupted downloads are resumed. Files are compared with the checksums that the
    hub states.

    Args:
        name: "hf:owner/name" or "hf:owner/name@revision" (a branch, a tag or a commit).

    Raises:
        CheckpointError: no such repository or revision, no access, no network, or a file that is not what the hub says.
    """
    matched = _NAME.fullmatch(name.removeprefix(HUB))
    if matched is None:
        raise CheckpointError(
            f"{name!r} does not name a model of the hub; expected hf:owner/name or hf:owner/name@revision."
        )
    repo, revision = matched["repo"], matched["revision"] or "main"
    prepare_home()
    kept = _from_cache(repo, revision)
    if kept is not None and _recorded(kept):
        return kept
    try:
        return _from_hub(repo, revision)
    except CheckpointError:
        raise
    except _FAILURES as error:
        if kept is not None and not _is_answer(error):
            note = "The hub could not be reached; the weights are those of its cache on this machine."
            return dataclasses.replace(kept, notes=(note,))
        raise _told(error, repo, revision) from error


def _from_cache(repo: str, revision: str) -> Fetched | None:
    """Returns what the hub's cache holds of a revision, which need not be everything."""
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    reference = home / "refs" / revision
    commit = (
        revision
        if _COMMIT.fullmatch(revision)
        else reference.read_text(encoding="utf-8").strip()
        if reference.is_file()
        else ""
    )
    folder = home / "snapshots" / commit
    return Fetched(folder, repo, commit) if commit and folder.is_dir() else None


def _record_file(fetched: Fetched) -> Path:
    return cache_or_temporary() / "hub" / f"{fetched.repo.replace('/', '--')}@{fetched.commit}.json"


def _recorded(fetched: Fetched) -> bool:
    """Says whether flaxtl fetched all that it needs of a revision, and it is still there."""
    try:
        names = json.loads(_record_file(fetched).read_text(encoding="utf-8"))["files"]
        return all((fetched.folder / n).is_file() for n in names)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _from_hub(repo: str, revision: str) -> Fetched:
    from huggingface_hub import HfApi, hf_hub_download

    told = HfApi().model_info(repo, revision=revision, files_metadata=True)
    about = {s.rfilename: s for s in told.siblings or []}
    names = chosen({n: s.size or 0 for n, s in about.items()}, f"{HUB}{repo}")
    commit = str(told.sha)
    folder = Path()
    for name in names:
        file = Path(hf_hub_download(repo, name, revision=revision if name == names[0] else commit))
        _verify(file, name, about[name])
        folder = file.parents[name.count("/")]
    fetched = Fetched(folder, repo, folder.name if _COMMIT.fullmatch(folder.name) else commit)
    record = _record_file(fetched)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"files": names}), encoding="utf-8")
    return fetched


def _verify(file: Path, name: str, about: Any) -> None:
    """Compares a file with what the hub says of it: large ones by SHA-256, the others by git's own checksum."""
    lfs = about.lfs
    wanted = (lfs.get("sha256") if isinstance(lfs, dict) else lfs.sha256) if lfs else about.blob_id
    found = sha256(file.resolve()) if lfs else _git_checksum(file)
    if wanted and found != wanted:
        # The client would take the damaged file for a good one ever after.
        file.resolve().unlink()
        file.unlink(missing_ok=True)
        raise CheckpointError(
            f"{name} is not what the hub says it is (its checksum is {found[:12]}… and not {wanted[:12]}…): the "
            "download was damaged or tampered with. It was deleted; fetch it again."
        )


def _git_checksum(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def chosen(sizes: dict[str, int], source: str) -> list[str]:
    """Returns the files to fetch of all that there are: settings first, so that weights are only there with them.

    Args:
        sizes: bytes by name, relative to the folder.
        source: what messages call it.

    Raises:
        CheckpointError: there are no weights among them, or several and no telling which.
    """
    top = [n for n in sizes if "/" not in n]
    weights: list[str] = []
    for pattern in PATTERNS:
        weights = sorted(n for n in fnmatch.filter(top, pattern) if not _SHARD.search(n))
        if len(weights) > 1:
            raise CheckpointError(
                f"{source} holds several files of weights, {listed(weights)}. Give the file that is meant."
            )
        if weights:
            break
    if not weights:
        raise CheckpointError(
            f"{source} holds no weights that flaxtl reads; it holds {listed(sorted(sizes)) or 'nothing'}."
        )
    if weights[0].endswith(".index.json"):
        stem = weights[0].removesuffix(".index.json")
        beginning, _, ending = stem.rpartition(".")
        weights += sorted(n for n in top if n.startswith(f"{beginning}-") and n.endswith(ending) and _SHARD.search(n))
    beside = {n for p in _BESIDE for n in fnmatch.filter(sizes, p) if n.count("/") <= 1 and sizes[n] <= _LARGEST_BESIDE}
    beside = {n for n in beside if not n.endswith(".index.json") and (n.count("/") == 0 or n.endswith("/config.json"))}
    return [*sorted(beside - set(weights)), *weights]


def _is_answer(error: Exception) -> bool:
    """Says whether an error is the hub's own answer, such as that there is no such repository."""
    from huggingface_hub import errors

    answers = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)
    return isinstance(error, answers) or 400 <= _status(error) < 500


def _status(error: Exception) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _told(error: Exception, repo: str, revision: str) -> CheckpointError:
    """Returns the sentence for what the hub's client raised."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"Access to {repo} has to be granted by its owners. Ask for it on its page, and log in (hf auth login)."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{repo} has no revision {revision!r}. Name a branch, a tag or a whole commit.")
    if isinstance(error, errors.RepositoryNotFoundError) or _status(error) in (401, 403, 404):
        return CheckpointError(
            f"The hub has no model {repo!r}, or it is private. Check the name; for a private one log in "
            "(hf auth login) or set HF_TOKEN."
        )
    if isinstance(error, errors.HFValidationError):
        return CheckpointError(f"{repo!r} is no name of a model of the hub. Expected owner/name.")
    offline = constants.HF_HUB_OFFLINE
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".:")
    why = "HF_HUB_OFFLINE is set" if offline else f"the hub at {constants.ENDPOINT} could not be asked ({first})"
    return CheckpointError(
        f"{repo} at {revision!r} is not in the cache on this machine, and {why}. "
        + ("Unset it once" if offline else "Try again")
        + ", or fetch the files by other means and give their folder."
    )


def copied(url: str) -> Path:
    """Copies what a URL of fsspec names into flaxtl's cache, unless it is there unchanged.

    Args:
        url: of a file or a folder, such as "gs://bucket/model" or "s3://bucket/model.safetensors".

    Returns:
        The file or folder on this machine.

    Raises:
        CheckpointError: the protocol's driver is not installed, there is nothing, or it cannot be read.
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        if not system.exists(path):
            raise CheckpointError(f"There is nothing at {url}.")
        whole = system.isdir(path)
        files = _remote_files(system, path) if whole else {path.rstrip("/").rpartition("/")[2]: path}
        about = {name: _state(system, place) for name, place in files.items()}
        key = hashlib.sha256(json.dumps([url, about], sort_keys=True).encode()).hexdigest()[:24]
        folder = cache_or_temporary() / "urls" / key
        if not folder.is_dir():
            with new_directory(folder) as fresh:
                for name, place in files.items():
                    (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                    system.get_file(place, str(fresh / name))
        return folder if whole else folder / next(iter(files))
    except CheckpointError:
        raise
    except (ImportError, ValueError) as error:
        raise CheckpointError(_driver_missing(url, error)) from error
    except _FAILURES as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".:")
        raise CheckpointError(f"{url} could not be read: {first}. Check the address and your access to it.") from error


_DRIVERS = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "az": "adlfs", "abfs": "adlfs"}


def _driver_missing(url: str, error: Exception) -> str:
    protocol = url.partition(":")[0]
    package = _DRIVERS.get(protocol) or ("aiohttp" if protocol in ("http", "https") else "")
    if package and isinstance(error, ImportError):
        return f"{url} needs the package {package} to be read. Install it: pip install {package}."
    return f"{url} cannot be read here: {str(error).rstrip('.')}. Copy it to this machine and give its path."


def _remote_files(system: Any, root: str) -> dict[str, str]:
    """Returns the files to copy of a folder: of a model of flaxtl or an Orbax tree all, of published weights some."""
    base = system._strip_protocol(root).rstrip("/")
    found = {place.removeprefix(base).lstrip("/"): place for place in system.find(root)}
    if "card.json" in found or any(n.rpartition("/")[2] == "_METADATA" for n in found):
        return found
    sizes = {n: int(system.size(place) or 0) for n, place in found.items() if n.count("/") <= 1}
    return {n: found[n] for n in chosen(sizes, root)}


def _state(system: Any, place: str) -> list[str]:
    """Returns what changes when a remote file does."""
    told = system.info(place)
    return [
        str(told.get(k)) for k in ("size", "etag", "ETag", "mtime", "updated", "LastModified", "created", "md5Hash")
    ]
