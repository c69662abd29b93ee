"""JSON documents under a digest: what the kit writes about its work it reads back as it was, or not at all.

The sibling for tensors is `fap_lib.core.tensors`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fap_lib.core.errors import KitError
from fap_lib.core.files import as_json, read_json, write_text

DIGEST = "digest"
"""The entry with a SHA-256 of all others."""


def sealed(content: Mapping[str, Any]) -> str:
    """The text of a document with its digest: indented JSON, without NaN and infinity."""
    return as_json({**content, DIGEST: _digest(content)})


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a document atomically.

    Raises:
        KitError: the disk is full or the folder is not writable.
    """
    write_text(path, sealed(content))


def read_sealed(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """The content of a document that `write_sealed` wrote, without its digest.

    Args:
        what: names the file in messages. remedy: the end of the message about a damaged one: what to do.

    Raises:
        KitError: the file is missing, no JSON, or not as it was written.
    """
    content = read_json(path, what)
    if not isinstance(content, dict) or content.pop(DIGEST, None) != _digest(content):
        raise KitError(f"the {what} {path} has changed since it was written, or is damaged; {remedy}.")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
