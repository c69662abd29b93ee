"""Files that are either whole or absent: atomic writes, hashes, and plain words for disk errors."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fap_lib.core.errors import KitError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EACCES: "there is no permission to write; choose another folder or change its owner",
    errno.EPERM: "there is no permission to write; choose another folder or change its owner",
    errno.EROFS: "the file system is read-only; choose another folder",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission under `path` into a `KitError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors has no error number of its own, but quotes the system's.
        full = f"(os error {errno.ENOSPC})" in str(error)
        number = error.errno if isinstance(error, OSError) else errno.ENOSPC if full else None
        if number in _ADVICE:
            raise KitError(f"cannot write {path}: {_ADVICE[number]}.") from error
        raise


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    The content reaches the disk before the name does, so a crash leaves the old file or the new one.

    Raises:
        KitError: the disk is full or the folder is not writable.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes the file private; give it the permissions a plain open() would have given.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it takes `target`'s place, on failure it is removed.

    What a killed run left is cleared first. One process at a time fills it; others wait.

    Raises:
        KitError: the disk is full or the folder is not writable.
    """
    partial = target.with_name(f".{target.name}.partial")
    replaced = target.with_name(f".{target.name}.old")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f".{target.name}.lock")):
            _restore(replaced, target)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                yield partial
                if target.exists():
                    os.rename(target, replaced)
                os.rename(partial, target)
            finally:
                _restore(replaced, target)
                shutil.rmtree(partial, ignore_errors=True)


def _restore(replaced: Path, target: Path) -> None:
    """Put the folder that `target` was back if nothing took its place; else it is done with."""
    if replaced.exists() and not target.exists():
        os.rename(replaced, target)
    shutil.rmtree(replaced, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON (no NaN or infinity)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read the JSON file `path`; `what` names it in the message.

    Raises:
        KitError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise KitError(f"there is no {what} at {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"the {what} {path} cannot be read ({error}).") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise KitError(f"the {what} {path} is not valid JSON ({error.msg}, {where}).") from error


def read_lines(path: Path, what: str) -> list[dict[str, Any]]:
    """Read a file of JSON lines, one object each; `what` names it in the message.

    Raises:
        KitError: the file is missing or unreadable, or a line is no JSON object.
    """
    rows = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if line:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise KitError(f"the {what} {path}, line {number}: must be an object.")
                rows.append(row)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise KitError(f"the {what} {path} cannot be read ({error}).") from error
    return rows


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write objects to `path` atomically, as JSON lines."""
    lines = (json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[int]:
    """Hold the lock file `path`; the system releases it when the last process that has it open is gone.

    Args:
        wait: until whoever holds it is done; otherwise that is an error.

    Yields:
        The open file's descriptor, for child processes that must hold the lock as well.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
    """
    with disk_errors(path), open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield file.fileno()
