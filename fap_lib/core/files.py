"""Files that are either whole or absent: atomic writes, hashes, and plain words for disk errors."""

import errno
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fap_lib.core.errors import KitError, shown

PATIENCE = 10.0
"""Seconds to wait for a lock without a word."""

REMINDER = 60.0
"""Seconds between two words about the same lock."""

TEXT = 1 << 28
"""Bytes of a text file that is read; ImageNet's manifest would have about as many."""

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EACCES: "there is no permission to write; choose another folder or change its owner",
    errno.EPERM: "there is no permission to write; choose another folder or change its owner",
    errno.EROFS: "the file system is read-only; choose another folder",
}


_UNREADABLE = {errno.EIO, errno.ESTALE}


def unusable(error: OSError) -> KitError | None:
    """The sentence about a path that cannot be read or written, where permissions or the disk are why; None
    for anything else, which is a defect of the kit."""
    if error.filename is None or error.errno not in {*_ADVICE, *_UNREADABLE}:
        return None
    return KitError(
        f"{error.filename} cannot be used ({error.strerror}); change its permissions, or give another path."
    )


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


def as_json(value: Any) -> str:
    """`value` as indented JSON (no NaN or infinity)."""
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON (no NaN or infinity)."""
    write_text(path, as_json(value))


def read_text(path: Path, what: str) -> str:
    """Read the UTF-8 file `path`; `what` names it in the message.

    Raises:
        KitError: the file is missing, unreadable, too large or not UTF-8.
    """
    try:
        if (size := path.stat().st_size) > TEXT:
            raise KitError(f"the {what} {path} has {size >> 20} MB, more than the kit reads ({TEXT >> 20}).")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise KitError(f"there is no {what} at {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"the {what} {path} cannot be read ({error}).") from error


def read_json(path: Path, what: str) -> Any:
    """Read the JSON file `path`; `what` names it in the message.

    Raises:
        KitError: the file is missing, unreadable or not JSON.
    """
    return parse_json(read_text(path, what), path, what)


def parse_json(text: str, path: Path, what: str) -> Any:
    """The value of a JSON text, which came from `path`.

    Raises:
        KitError: it is not JSON, names a key twice, is too deep, or holds no Unicode.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
        json.dumps(
            value, ensure_ascii=False
        ).encode()  # lone surrogates can be written as escapes, and are no text
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise KitError(f"the {what} {path} is not valid JSON ({error.msg}, {where}).") from error
    except RecursionError as error:
        raise KitError(f"the {what} {path} is not valid JSON (it is nested too deeply).") from error
    except ValueError as error:
        raise KitError(f"the {what} {path} is not valid JSON ({shown(str(error))}).") from error
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless it names a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


def read_lines(path: Path, what: str) -> list[dict[str, Any]]:
    """Read a file of JSON lines, one object each; `what` names it in the message.

    Raises:
        KitError: the file is missing or unreadable, or a line is no JSON object.
    """
    rows = []
    for number, line in enumerate(read_text(path, what).split("\n"), 1):
        if line:
            row = parse_json(line, path, what)
            if not isinstance(row, dict):
                raise KitError(f"the {what} {path}, line {number}: must be an object.")
            rows.append(row)
    return rows


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write objects to `path` atomically, as JSON lines."""
    lines = (json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's content.

    Raises:
        KitError: it is missing, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise KitError(f"the file {path} cannot be read ({error.strerror}).") from error


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[int]:
    """Hold the lock file `path`; it is removed at the end, and the system releases what a kill left.

    Args:
        wait: until whoever holds it is done; after `PATIENCE` seconds stderr says for whom, how long, and
            what can be done. Otherwise that is an error.

    Yields:
        The open file's descriptor, for child processes that must hold the lock as well.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path, wait)
    try:
        yield handle
    finally:
        # Removed while it is held, so that nothing which still has it open can make others wait.
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, wait: bool) -> int:
    """Open and lock `path`; the file then names this process."""
    begun, next_word = time.monotonic(), PATIENCE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except BlockingIOError:
            if not wait:
                os.close(handle)
                raise
            waited = time.monotonic() - begun
            if waited > next_word:
                next_word = waited + REMINDER
                print(_whom(path, handle, waited), file=sys.stderr, flush=True)
            time.sleep(0.1)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # held by another, or removed by its last holder in between


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _whom(path: Path, handle: int, waited: float) -> str:
    """For whom a lock makes this process wait, how long already, and what to do."""
    said = f"waiting since {waited:.0f} s for"
    try:
        owner = int(os.pread(handle, 20, 0))
        os.kill(owner, 0)
    except (ValueError, ProcessLookupError):
        return (
            f"{said} a process that another left behind: it holds {path}; if it should not run any more, "
            f"`fuser -k {shlex.quote(str(path))}` ends it."
        )
    except PermissionError:
        pass  # it lives, and is another user's
    return (
        f"{said} process {owner}, which holds {path}; this goes on when that is done. If it hangs, "
        f"`kill {owner}` ends it."
    )
