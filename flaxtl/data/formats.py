"""Which files are pictures, sound or text: by their endings, else by how they begin; and why others are left out."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from PIL import Image as pillow
from PIL import features

_ALWAYS = {
    "image": (
        ".jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .png .apng .bmp .dib .gif .tif .tiff .ppm .pgm .pbm .pnm .tga "
        ".mpo .pcx .qoi .ico .psd"
    ),
    "audio": ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64",
    "text": ".txt",
}
# Formats that Pillow reads if it was built with their library.
_BUILT_IN = {"webp": ".webp", "jpg_2000": ".jp2 .j2k .j2c .jpc .jpx .jpf", "avif": ".avif .avifs"}
_HEIF = ".heic .heif .hif"
_PICTURES = (
    ".svg .svgz .cr2 .cr3 .nef .arw .dng .orf .rw2 .raf .pef .srw .raw .jxl .jxr .psb .exr .hdr .dcm .dicom .eps "
    ".xcf .webp .jp2 .j2k .j2c .jpc .jpx .jpf .avif .avifs " + _HEIF
)
_SOUNDS = (
    ".m4a .m4b .aac .wma .amr .ape .ac3 .mka .weba .mid .midi .ra .dss .spx .wv .webm .mp4 .m4v .mov .avi .mkv .mpg "
    ".mpeg .3gp .wmv .flv"
)
_ARCHIVES = ".zip .tar .gz .tgz .bz2 .tbz2 .xz .txz .7z .rar .zst"
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".bak", ".orig", ".swp")


@functools.cache
def readable_endings() -> dict[str, frozenset[str]]:
    """Returns the endings of files that this environment reads, lower case, by modality.

    Example:
        >>> '.jfif' in readable_endings()['image'], '.m4a' in readable_endings()['audio']
        (True, False)
    """
    found = {kind: set(endings.split()) for kind, endings in _ALWAYS.items()}
    for feature, endings in _BUILT_IN.items():
        if features.check(feature):
            found["image"] |= set(endings.split())
    if _reads_heif():
        found["image"] |= set(_HEIF.split())
    return {kind: frozenset(endings) for kind, endings in found.items()}


def _reads_heif() -> bool:
    """Whether Pillow reads HEIC, the format of Apple's cameras: with the plugin pillow-heif, if it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return "HEIF" in pillow.OPEN
    register_heif_opener()
    return True


def modality_of(name: str) -> str | None:
    """Returns what a file holds by its ending, or None.

    Example:
        >>> modality_of('cat.JPG'), modality_of('notes.md')
        ('image', None)
    """
    ending = PurePosixPath(name).suffix.lower()
    return next((kind for kind, endings in readable_endings().items() if ending in endings), None)


def modality_of_file(name: str, head: Callable[[], bytes]) -> str | None:
    """Returns what a file holds by its ending; where that is unknown, by its first bytes.

    Args:
        name: of the file.
        head: returns its first 32 bytes or more; only asked where the ending does not tell.

    Example:
        >>> modality_of_file('photo_0017', lambda: b'\\xff\\xd8\\xff\\xe0')
        'image'
    """
    ending = PurePosixPath(name).suffix.lower()
    known = modality_of(name)
    others = f"{_PICTURES} {_SOUNDS} {_ARCHIVES}".split()
    if known is not None or ending in others or ending in _UNFINISHED or name.endswith("~"):
        return known
    return _by_signature(head())


def _by_signature(head: bytes) -> str | None:
    if head[:3] == b"\xff\xd8\xff" or head[:8] == b"\x89PNG\r\n\x1a\n" or head[:6] in (b"GIF87a", b"GIF89a"):
        return "image"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image" if ".webp" in readable_endings()["image"] else None
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "image" if ".avif" in readable_endings()["image"] else None
    if (head[:2] == b"BM" and head[6:10] == bytes(4)) or head[:4] in (b"II*\0", b"MM\0*"):  # BMP, TIFF
        return "image"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio"
    return "audio" if head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3" else None


def holds_media(name: str) -> bool:
    """Whether an ending that cannot be read is of pictures, sound, video or an archive, which may be the examples.

    Example:
        >>> holds_media('a/1.m4a'), holds_media('a/1.xml')
        (True, False)
    """
    return PurePosixPath(name).suffix.lower() in f"{_PICTURES} {_SOUNDS} {_ARCHIVES}".split()


def why_not_read(name: str) -> str:
    """Returns why a file is no example, one sentence that is the same for all files of its ending.

    Example:
        >>> why_not_read('a/1.m4a')
        "'.m4a' cannot be read here; convert it to .wav or .flac, for example with ffmpeg."
    """
    ending = PurePosixPath(name).suffix.lower()
    if ending in _PICTURES.split():
        plugin = ", or pip install pillow-heif" if ending in _HEIF.split() else ""
        return f"{ending!r} is a picture format that Pillow cannot read here; convert it to .png or .jpg{plugin}."
    if ending in _SOUNDS.split():
        return f"{ending!r} cannot be read here; convert it to .wav or .flac, for example with ffmpeg."
    if ending in _ARCHIVES.split():
        return f"{ending!r} is an archive that is not looked into here; unpack it."
    if ending in _UNFINISHED or name.endswith("~"):
        return f"{ending or '~'!r} is the ending of a backup or an unfinished file."
    if not ending:
        return "it has no ending, and does not begin as a picture or a sound does."
    return f"{ending!r} is no ending of a picture, a sound or a .txt file."


_LITTER = (
    "thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini icon\r .ds_store .directory .localized .gitkeep .keep "
    ".gitignore .gitattributes .nomedia .picasa.ini .dvcignore"
)
_LITTER_FOLDERS = (
    "__macosx .git .svn .hg .dvc .cache .ipynb_checkpoints __pycache__ @eadir .thumbnails .appledouble .spotlight-v100 "
    ".trashes .fseventsd .temporaryitems .idea .vscode .venv .huggingface $recycle.bin lost+found"
)
_COMPANION = re.compile(
    r"(readme|licen[cs]e|copying|notice|citation|changelog|authors|attribution|copyright|md5sums?|sha\d+sums?|checksums?)"
    r"([-_ .].*)?",
    re.IGNORECASE,
)
_CHECKSUM = re.compile(r".*\.(md5|sha1|sha256|sha512|crc32|sfv)", re.IGNORECASE)


def is_litter(name: str) -> bool:
    """Whether a file was put there by an operating system or a tool, and nobody means it as data.

    Example:
        >>> is_litter('.DS_Store'), is_litter('._1.jpg'), is_litter('.1.jpg')
        (True, True, False)
    """
    return name.lower() in _LITTER.split(" ") or name.startswith(("._", "~$", ".nfs", ".~lock."))


def is_litter_folder(name: str) -> bool:
    """Whether a folder is an operating system's or a tool's own.

    Example:
        >>> is_litter_folder('__MACOSX'), is_litter_folder('cat')
        (True, False)
    """
    return name.lower() in _LITTER_FOLDERS.split() or name.startswith(".Trash")


def is_companion(name: str) -> bool:
    """Whether a file tells of the data, such as a licence or checksums, rather than being part of it.

    Example:
        >>> is_companion('LICENSE.txt'), is_companion('readme.md'), is_companion('license_plate.jpg')
        (True, True, False)
    """
    return modality_of(name) in (None, "text") and bool(_COMPANION.fullmatch(name) or _CHECKSUM.fullmatch(name))
