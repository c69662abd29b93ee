"""Archives unpacked safely: every member is checked here, and a folder is whole or absent.

The libraries only list and decompress. Names, types, count and size are checked, and files are written, by
this module (7z: checked before py7zr writes), because extraction filters of libraries have been bypassed.
"""

import errno
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from fap_lib.core.errors import SHOWN, KitError, shown
from fap_lib.core.files import read_json, sha256, whole_folder, write_json
from fap_lib.core.progress import bar

COMPLETE = ".complete.json"
"""Written last into an unpacked folder, with the archive's SHA-256; a folder without it is done again."""

MEMBERS = 200_000
BYTES = 64 << 30
RATIO = 200  # times the archive's own size; images hardly compress
SMALL = 1 << 30  # below this a high ratio (all-zero masks) does no harm

_CHUNK = 1 << 20
_SEVEN_ZIP, _RAR = b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


Extract = Callable[[Path, Path, "_Limits"], None]
"""Unpacks an archive into a folder, within limits."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive. plain: a file or a folder, and no link or device. content: opens a file's
    bytes; None for a folder."""

    name: str
    size: int
    plain: bool
    content: Callable[[], IO[bytes]] | None


def unpack(archive: Path, place: Path) -> Path:
    """Unpack `archive` into the folder `place`, unless it is there already, complete and from this archive.

    Raises:
        KitError: not an archive, damaged, encrypted, too large, or a member that could leave the folder; a
            format that needs another tool. Then `place` is as it was.
    """
    digest = sha256(archive)
    if _is_unpacked(place, digest):
        return place
    extract = extractor(archive)
    with whole_folder(place) as folder:
        limits = _Limits(archive)
        try:
            extract(archive, folder, limits)
        except KitError:
            raise
        except Exception as error:  # whatever a library stumbles over, unless it is the disk
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            raise _damaged(archive, error) from error
        if not limits.members:
            raise KitError(f"{archive} holds no files; fetch it again.")
        write_json(
            folder / COMPLETE,
            {"archive": archive.name, "sha256": digest, "members": limits.members, "bytes": limits.bytes},
        )
    return place


def _is_unpacked(place: Path, digest: str) -> bool:
    """Whether `place` holds this archive, complete; a mark that cannot be read says nothing."""
    try:
        return bool(read_json(place / COMPLETE, "mark")["sha256"] == digest)
    except (KitError, TypeError, KeyError):
        return False


def _damaged(archive: Path, error: Exception) -> KitError:
    said = " ".join(str(error).split())[:SHOWN] or type(error).__name__
    return KitError(f"{archive} is damaged or cut short ({said}); fetch it again.")


def extractor(archive: Path) -> Extract:
    """How to unpack a file, by its first bytes; its name says nothing.

    Raises:
        KitError: not an archive, or one that needs another tool.
    """
    with open(archive, "rb") as file:
        start = file.read(8)
    if start.startswith(_RAR):
        raise KitError(
            f"{archive} is a rar archive, which needs a tool of its own: unpack it with unrar, unar or "
            "7-Zip, then give the folder."
        )
    if start.startswith(_SEVEN_ZIP):
        return _unpack_seven_zip
    if start.startswith(b"PK"):
        return _unpack_zip
    if start.lstrip().startswith(b"<"):
        raise KitError(
            f"{archive} is a web page and no archive; the download wanted a login, do it in a browser."
        )
    if _is_tar(archive):
        return _unpack_tar
    raise KitError(f"{archive} is no archive the kit can read (zip, tar, 7z), or is damaged; fetch it again.")


def _is_tar(archive: Path) -> bool:
    try:
        return tarfile.is_tarfile(archive)
    except Exception:  # a compressed file that is cut in its header
        return False


class _Limits:
    """Counts what an archive unpacks to, and refuses too much of it before it is written."""

    def __init__(self, archive: Path):
        self.archive = archive
        self.members = self.bytes = 0
        self.most = min(BYTES, max(SMALL, RATIO * archive.stat().st_size))

    def add(self, size: int) -> None:
        if size < 0:
            raise ValueError("a member of negative size")
        self.members += 1
        self.bytes += size
        if self.members > MEMBERS or self.bytes > self.most:
            raise KitError(
                f"{self.archive} unpacks to more than {self.most >> 20} MB or {MEMBERS} files, like an "
                "archive made to fill the disk; if you trust it, unpack it yourself and give the folder."
            )


def _unpack_zip(archive: Path, folder: Path, limits: _Limits) -> None:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        if any(info.flag_bits & 1 for info in infos):
            raise KitError(f"{archive} is encrypted; unpack it with its password and give the folder.")
        members = (
            Member(
                info.filename,
                info.file_size,
                _is_plain(info),
                None if info.is_dir() else partial(file.open, info),
            )
            for info in infos
        )
        _write_all(archive, members, folder, limits, len(infos))


def _is_plain(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
    return kind in (0, stat.S_IFREG, stat.S_IFDIR)


def _unpack_tar(archive: Path, folder: Path, limits: _Limits) -> None:
    with tarfile.open(archive) as file:
        members = (
            Member(
                info.name,
                info.size,
                (info.isreg() and not info.issparse()) or info.isdir(),
                None if info.isdir() else partial(_tar_content, file, info),
            )
            for info in file
        )
        _write_all(archive, members, folder, limits, None)
        # tarfile takes a cut between two members for the end, and reads no checksum after it.
        assert file.fileobj is not None
        if file.fileobj.tell() == file.offset:
            raise EOFError("its end is missing")
        while file.fileobj.read(_CHUNK):
            pass


def _tar_content(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = file.extractfile(info)
    assert content is not None  # it is a regular file
    return content


def _write_all(
    archive: Path, members: Iterator[Member], folder: Path, limits: _Limits, total: int | None
) -> None:
    for member in bar(members, f"unpacking {archive.name}", total):
        target = _target(archive, member, folder)
        limits.add(member.size)
        try:
            (target if member.content is None else target.parent).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise KitError(f"{archive} holds {shown(member.name)} below a file; fetch it again.") from error
        if member.content is None:
            continue
        if target.exists():
            raise KitError(f"{archive} holds {shown(member.name)} twice; fetch it again.")
        with open(target, "xb") as out, member.content() as source:
            # A member never gives more than its announced size, so that the limits hold.
            left = member.size
            while left and (chunk := source.read(min(_CHUNK, left))):
                left -= len(chunk)
                out.write(chunk)
            if left or source.read(1):
                raise EOFError(f"{member.name} has another size than announced")


def _unpack_seven_zip(archive: Path, folder: Path, limits: _Limits) -> None:
    try:
        import py7zr
    except ImportError as error:
        raise KitError(
            f"{archive} is a 7z archive: install py7zr (`.venv/bin/python -m uv pip install -e '.[7z]'`), "
            "or unpack it with 7-Zip and give the folder."
        ) from error
    try:
        with py7zr.SevenZipFile(archive) as file:
            if file.needs_password():
                raise py7zr.PasswordRequired
            for info in file.list():
                _target(archive, Member(info.filename, 0, info.is_file or info.is_directory, None), folder)
                limits.add(info.uncompressed)
            file.extractall(folder)
    except py7zr.PasswordRequired as error:
        raise KitError(f"{archive} is encrypted; unpack it with its password and give the folder.") from error


def _target(archive: Path, member: Member, folder: Path) -> Path:
    """Where a member goes.

    Raises:
        KitError: it is a link or a device, or its name could lead out of the folder or hide something.
    """
    if not member.plain:
        raise KitError(
            f"{archive} holds the link or device {shown(member.name)}, which no dataset needs; do not use it."
        )
    path = PurePosixPath(member.name)
    unsafe = (
        path.parts[:1] == (COMPLETE,)
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in member.name
        or ":" in member.name
    )
    if unsafe or not member.name.isprintable() or any(len(part.encode()) > 255 for part in path.parts):
        raise KitError(f"{archive} holds the unsafe file name {shown(member.name)}; do not use it.")
    return folder / path
