"""Names in one Unicode form, so that two that look the same are the same."""

from __future__ import annotations

import unicodedata


def canonical_name(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC); file systems and archives of a Mac hold the decomposed one.

    Example:
        >>> canonical_name('cafe\\u0301') == 'caf\\u00e9'
        True
    """
    return unicodedata.normalize("NFC", name)
