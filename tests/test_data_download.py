"""Downloads from a server on this machine: whole, resumed, wrong; and what cannot be downloaded."""

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from raw_layouts import RAW
from test_data_archives import tree, write_zip

from data_prep import download
from data_prep.download import fetch
from data_prep.prepare import prepare
from data_prep.registry import DATASETS, Archive, Dataset
from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.core.errors import KitError


class Server:
    """Serves one file. cut: bytes after which an answer breaks off; ranges: whether it can begin anywhere."""

    def __init__(self) -> None:
        self.content, self.cut, self.ranges, self.tag, self.status = b"", None, True, '"1"', None
        self.asked: list[str | None] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range") == self.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        size = len(self.content)
        if self.status:
            request.send_error(self.status)
        elif start and start >= size:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{size}")
            request.end_headers()
        else:
            request.send_response(206 if start else 200)
            request.send_header("Content-Length", str(size - start))
            request.send_header("ETag", self.tag)
            if start:
                request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            request.end_headers()
            request.wfile.write(self.content[start:][: self.cut])


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.address = f"http://127.0.0.1:{http.server_port}/set.zip"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def entry(server, tmp_path, monkeypatch) -> Dataset:
    """Kvasir-SEG's entry with an archive on this machine, its hash known."""
    RAW["kvasir"](tmp_path / "raw")
    write_zip(tmp_path / "made.zip", {**tree(tmp_path / "raw"), "noise": os.urandom(60_000)})
    server.content = (tmp_path / "made.zip").read_bytes()
    archive = Archive("set.zip", hashlib.sha256(server.content).hexdigest(), server.address)
    made = replace(DATASETS["kvasir"], archives=(archive,))
    monkeypatch.setitem(DATASETS, "kvasir", made)
    monkeypatch.setattr(download, "_CHUNK", 1 << 12)
    return made


@pytest.mark.usefixtures("entry")
def test_one_command_downloads_and_prepares(server, capsys):
    assert main(["data", "prepare", "kvasir"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("terms of kvasir: ")
    assert "kvasir: 0 normal, 3 anomalous" in shown.out
    assert server.asked == [None]
    assert main(["data", "prepare", "kvasir"]) == 0
    assert server.asked == [None], "what is there is not fetched again"


def test_a_broken_download_goes_on_where_it_stopped(entry, server, tmp_path):
    server.cut = len(server.content) // 3
    kept = [0]
    for _ in range(2):
        with pytest.raises(KitError, match=r"download of set\.zip stopped .*the same command continues it"):
            fetch(entry, tmp_path)
        kept.append((tmp_path / "set.zip.part").stat().st_size)
        assert kept[-1] > kept[-2] + server.cut // 2
        assert not (tmp_path / "set.zip").exists()
    server.cut = None
    fetch(entry, tmp_path)
    assert server.asked == [None, f"bytes={kept[1]}-", f"bytes={kept[2]}-"]
    assert (tmp_path / "set.zip").read_bytes() == server.content
    assert not list(tmp_path.glob("set.zip.*"))


@pytest.mark.parametrize("change", ["file", "ranges"])
def test_what_cannot_go_on_starts_again(change, entry, server, tmp_path):
    server.cut = len(server.content) // 3
    with pytest.raises(KitError, match="stopped"):
        fetch(entry, tmp_path)
    server.cut = None
    if change == "file":
        server.tag = '"2"'
    else:
        server.ranges = False
    fetch(entry, tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == server.content


def test_a_part_that_is_all_is_taken(entry, server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(server.content)
    (tmp_path / "set.zip.tag").write_text(server.tag)
    fetch(entry, tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == server.content


def test_a_file_that_is_not_the_published_one_is_removed(entry, server, tmp_path):
    server.content = b"another file"
    with pytest.raises(KitError, match="is not the published file"):
        fetch(entry, tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == []


def test_without_a_published_hash_the_file_is_admitted_only_as_an_archive(entry, server, tmp_path, capsys):
    unknown = replace(entry, archives=(replace(entry.archives[0], sha256=None),))
    archive, server.content = server.content, b"<html>please log in</html>"
    with pytest.raises(KitError, match="is a web page"):
        fetch(unknown, tmp_path)
    assert not (tmp_path / "set.zip").exists(), "else the next call would take it for downloaded"
    server.content = archive
    fetch(unknown, tmp_path)
    assert f"here it is {hashlib.sha256(archive).hexdigest()}" in capsys.readouterr().err


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_says_how_to_get_it_by_hand(status, entry, server, tmp_path):
    server.status = status
    with pytest.raises(KitError, match=rf"{status}.*in a browser.*--from PATH"):
        fetch(entry, tmp_path)


def test_no_connection_says_how_to_get_it_by_hand(entry, tmp_path):
    closed = replace(entry.archives[0], address="http://127.0.0.1:9/set.zip")
    with pytest.raises(KitError, match="stopped") as caught:
        fetch(replace(entry, archives=(closed,)), tmp_path)
    assert len(str(caught.value).splitlines()) == 1


BY_HAND = [name for name, entry in DATASETS.items() if not download.is_plain(entry)]


def test_which_datasets_download_by_themselves():
    assert set(DATASETS) - set(BY_HAND) == {"mvtec", "visa", "btad", "sdd", "elpv", "kvasir", "isic"}


@pytest.mark.parametrize("name", BY_HAND)
def test_where_a_login_or_form_is_needed_the_command_says_what_to_do(name, capsys):
    assert main(["data", "prepare", name]) == 2
    *_, message = capsys.readouterr().err.splitlines()
    assert message.startswith(f"fap: {name} cannot be downloaded by this command alone. ")
    assert DATASETS[name].by_hand in message
    assert f"`fap data prepare {name} --from PATH`" in message
    assert not (paths.data() / name).exists()


def test_kagglehub_is_asked_by_name(tmp_path, monkeypatch):
    RAW["headct"](tmp_path / "cache")
    asked = []

    def dataset_download(handle: str) -> str:
        asked.append(handle)
        return str(tmp_path / "cache")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=dataset_download))
    assert len(prepare("headct", via="kagglehub").records("test")) == 5
    assert asked == ["felipekitamura/head-ct-hemorrhage"]


@pytest.mark.parametrize("name", ["endo", "dtd"])
def test_gdown_is_asked_by_name(name, tmp_path, monkeypatch):
    RAW[name](tmp_path / "raw")

    def download_file(id: str, output: str, resume: bool) -> str:
        assert (id, resume) == ("1LNpLkv5ZlEUzr_RPN5rdOHaqk0SkZa3m", True)
        write_zip(Path(output), tree(tmp_path / "raw"))
        return output

    def download_folder(id: str, output: str, resume: bool) -> list[str]:
        assert (id, resume) == ("10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1", True)
        write_zip(Path(output) / "whatever.zip", tree(tmp_path / "raw"))
        return [output]

    fake = SimpleNamespace(download=download_file, download_folder=download_folder)
    monkeypatch.setitem(sys.modules, "gdown", fake)
    assert prepare(name, via="gdown").records("test")


@pytest.mark.parametrize(("via", "name"), [("kagglehub", "dagm"), ("gdown", "endo")])
def test_extras_that_are_missing_or_fail_are_named(via, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, via, None)
    with pytest.raises(KitError, match=rf"{via} is not installed: .*pip install -e '\.\[{via}\]'`"):
        fetch(DATASETS[name], tmp_path, via)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("quota\nexceeded")

    monkeypatch.setitem(sys.modules, via, SimpleNamespace(dataset_download=fail, download=fail))
    with pytest.raises(KitError, match=r"could not fetch .* \(quota exceeded\)"):
        fetch(DATASETS[name], tmp_path, via)
    with pytest.raises(KitError, match=f"mpdd cannot be downloaded with {via}"):
        fetch(DATASETS["mpdd"], tmp_path, via)
