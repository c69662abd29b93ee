"""Downloads, where the terms allow them: resumable, checked, and otherwise exact instructions."""

import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from data_prep.archives import extractor
from data_prep.registry import Archive, Dataset
from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors, sha256, write_text
from fap_lib.core.progress import bar

Via = Literal["kagglehub", "gdown"]

_CHUNK = 1 << 20
_SECONDS = 30  # without any byte


def fetch(entry: Dataset, folder: Path, via: Via | None = None) -> Path:
    """Download a dataset into `folder`; an interrupted download continues.

    Args:
        via: the extra package to ask, for what lies on Kaggle or Google Drive.

    Returns: a folder with its archives or its files.

    Raises:
        KitError: it cannot be downloaded this way (the message says how to get it), the connection or
            the disk failed, or a file is not the published one.
    """
    if via == "kagglehub" and entry.kaggle:
        return _kaggle(entry)
    if via == "gdown" and entry.drive:
        return _drive(entry, folder)
    if via is None and is_plain(entry):
        for archive in entry.archives:
            _plain(entry, archive, folder)
        return folder
    raise KitError(
        f"{entry.name} cannot be downloaded {f'with {via}' if via else 'by this command alone'}. "
        f"{by_hand(entry)}"
    )


def is_plain(entry: Dataset) -> bool:
    """Whether all archives of a dataset have addresses that anyone may fetch them from."""
    return bool(entry.archives) and all(archive.address for archive in entry.archives)


def how(entry: Dataset) -> str:
    """How to get a dataset, in sentences."""
    alone = f"`fap data prepare {entry.name}` downloads it. Or: " if is_plain(entry) else ""
    return alone + by_hand(entry)


def by_hand(entry: Dataset) -> str:
    """How to get a dataset other than from a plain address, in sentences."""
    extra = "kagglehub" if entry.kaggle else "gdown" if entry.drive else None
    also = f" Or: `fap data prepare {entry.name} --via {extra}`." if extra else ""
    return f"{entry.by_hand} Then: `fap data prepare {entry.name} --from PATH`.{also}"


def _plain(entry: Dataset, archive: Archive, folder: Path) -> None:
    """One archive from its address into `folder`, by pooch: there already, or downloaded and hashed."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    known = f"sha256:{archive.sha256}" if archive.sha256 else None
    with disk_errors(folder):
        try:
            pooch.retrieve(
                archive.address, known, archive.name, folder, downloader=_resuming(folder / archive.name)
            )
        except requests.RequestException as error:
            answer = error.response
            reason = "the connection failed" if answer is None else f"{answer.status_code} {answer.reason}"
            raise KitError(
                f"the download of {archive.name} stopped ({reason}); the same command continues it. "
                f"{by_hand(entry)}"
            ) from error
        except ValueError as error:  # pooch: the hash differs; it keeps no such file
            raise KitError(
                f"{archive.name} from {archive.address} is not the published file (its SHA-256 differs) "
                f"and was removed; the same command tries again. {by_hand(entry)}"
            ) from error
    if known is None:
        _admit(folder / archive.name)


def _admit(path: Path) -> None:
    """Take a file without a published hash if it is an archive, and not a page that asks for a login."""
    try:
        extractor(path)
    except KitError:
        path.unlink()
        raise
    print(f"note: no source states the SHA-256 of {path.name}; here it is {sha256(path)}", file=sys.stderr)


def _reason(error: Exception) -> str:
    """What went wrong, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _resuming(target: Path) -> Any:
    """A downloader for pooch that keeps what it has in `TARGET.part` and goes on there.

    The server is asked to go on only if its file is still the same one (If-Range), else it sends all.
    """
    part, tag = target.with_name(target.name + ".part"), target.with_name(target.name + ".tag")

    def download(address: str, output: str, _: object) -> None:
        import requests

        done = part.stat().st_size if part.is_file() and tag.is_file() else 0
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": tag.read_text(encoding="utf-8")}
        with requests.get(address, headers=headers, stream=True, timeout=_SECONDS) as answer:
            whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if answer.status_code != 416 or whole != str(done):  # else nothing is missing
                answer.raise_for_status()
                _receive(answer, part, tag, done if answer.status_code == 206 else 0)
        part.replace(output)
        tag.unlink(missing_ok=True)

    return download


def _receive(answer: Any, part: Path, tag: Path, done: int) -> None:
    """Write an answer's bytes into `part` after the first `done`; into `tag`, what identifies its file."""
    import requests

    if not done:
        # A weak ETag does not promise equal bytes.
        strong = answer.headers.get("ETag", "W/")
        same = answer.headers.get("Last-Modified", "") if strong.startswith("W/") else strong
        tag.unlink(missing_ok=True)
        if same:
            write_text(tag, same)
    with open(part, "ab" if done else "wb") as file:
        for chunk in _chunks(answer, done, part.stem):
            file.write(chunk)
    length = answer.headers.get("Content-Length")
    if length is not None and part.stat().st_size != done + int(length):
        raise requests.ConnectionError("the server ended early")


def _chunks(answer: Any, done: int, name: str) -> Iterator[bytes]:
    left = int(answer.headers.get("Content-Length", 0))
    total = math.ceil((done + left) / _CHUNK) if left else None
    yield from bar(answer.iter_content(_CHUNK), f"{name} (MB)", total, done // _CHUNK)


def _kaggle(entry: Dataset) -> Path:
    try:
        return Path(_extra("kagglehub").dataset_download(entry.kaggle))
    except KitError:
        raise
    except Exception as error:  # whatever the service or the package says
        raise KitError(
            f"kagglehub could not fetch {entry.kaggle} ({_reason(error)}). {by_hand(entry)}"
        ) from error


def _drive(entry: Dataset, folder: Path) -> Path:
    kind, _, key = entry.drive.partition("/")
    gdown = _extra("gdown")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if kind == "folder":
                done = gdown.download_folder(id=key, output=str(folder), resume=True)
            else:
                done = gdown.download(id=key, output=str(folder / entry.archives[0].name), resume=True)
        except Exception as error:
            raise KitError(
                f"gdown could not fetch {entry.drive} ({_reason(error)}). {by_hand(entry)}"
            ) from error
    if not done:
        raise KitError(f"gdown fetched nothing from {entry.drive} (quota or permission). {by_hand(entry)}")
    return folder


def _extra(name: Via) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise KitError(
            f"{name} is not installed: `.venv/bin/python -m uv pip install -e '.[{name}]'`, then run the "
            "same command again."
        ) from error
