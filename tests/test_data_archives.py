"""Archives: unpacked whole or not at all, and nothing outside the folder."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import py7zr
import pytest
from raw_layouts import RAW

from data_prep import archives
from data_prep.archives import COMPLETE, unpack
from data_prep.prepare import prepare
from data_prep.registry import DATASETS
from fap_lib.core import files, paths
from fap_lib.core.errors import KitError

CONTENT = {"set/images/a b.png": b"one", "set/masks/ü.png": b"two" * 1000, "set/empty.txt": b""}


def write_zip(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data)


def write_tar(path: Path, content: dict[str, bytes]) -> None:
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as file:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def write_7z(path: Path, content: dict[str, bytes]) -> None:
    with py7zr.SevenZipFile(path, "w") as file:
        for name, data in content.items():
            file.writestr(data, name)


WRITERS = {
    "x.zip": write_zip,
    "x.tar": write_tar,
    "x.tar.xz": write_tar,
    "x.tar.gz": write_tar,
    "x.7z": write_7z,
}
every_kind = pytest.mark.parametrize("kind", WRITERS)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != COMPLETE
    }


@every_kind
def test_an_archive_is_unpacked_and_marked(kind, tmp_path):
    WRITERS[kind](tmp_path / kind, CONTENT)
    place = unpack(tmp_path / kind, tmp_path / "out" / "x")
    assert tree(place) == CONTENT
    mark = json.loads((place / COMPLETE).read_text())
    assert mark["archive"] == kind
    assert mark["bytes"] == 3003


@every_kind
def test_the_content_decides_and_not_the_suffix(kind, tmp_path):
    WRITERS[kind](tmp_path / kind, CONTENT)
    (tmp_path / kind).rename(tmp_path / "download")
    assert tree(unpack(tmp_path / "download", tmp_path / "out")) == CONTENT


def test_a_folder_without_its_mark_is_done_again(tmp_path):
    write_zip(tmp_path / "x.zip", CONTENT)
    place = unpack(tmp_path / "x.zip", tmp_path / "out")
    (place / "set" / "images" / "a b.png").write_bytes(b"kept")
    assert (unpack(tmp_path / "x.zip", place) / "set" / "images" / "a b.png").read_bytes() == b"kept"
    (place / COMPLETE).unlink()
    assert tree(unpack(tmp_path / "x.zip", place)) == CONTENT


@every_kind
@pytest.mark.parametrize("share", [0.3, 0.7, 0.85])
def test_a_cut_archive_is_named_and_leaves_nothing(kind, share, tmp_path):
    WRITERS[kind](tmp_path / kind, {**CONTENT, "set/noise": os.urandom(50_000)})
    data = (tmp_path / kind).read_bytes()
    (tmp_path / kind).write_bytes(data[: int(share * len(data))])
    with pytest.raises(KitError, match=r"damaged|cut short"):
        unpack(tmp_path / kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out.partial*"))


def test_a_tar_cut_between_two_members_is_found(tmp_path):
    write_tar(tmp_path / "x.tar", {"a": b"1", "b": b"2"})
    data = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(data[:1024])  # the first member's header and content
    with pytest.raises(KitError, match="its end is missing"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


@every_kind
def test_a_changed_byte_is_found(kind, tmp_path):
    WRITERS[kind](tmp_path / kind, {"noise": os.urandom(50_000)})
    data = bytearray((tmp_path / kind).read_bytes())
    data[20_000] ^= 1
    (tmp_path / kind).write_bytes(data)
    if kind == "x.tar":  # has no checksum of contents; published ones have a SHA-256
        return
    with pytest.raises(KitError, match="damaged"):
        unpack(tmp_path / kind, tmp_path / "out")


UNSAFE = [
    "../out.txt",
    "a/../../out.txt",
    "/tmp/out.txt",
    "C:/out.txt",
    "a\\..\\..\\out.txt",
    "new\nline.png",
    "x" * 300,
]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_an_unsafe_name_is_refused(kind, name, tmp_path):
    WRITERS[kind](tmp_path / kind, {"good.txt": b"", name: b"bad"})
    with pytest.raises(KitError, match="unsafe file name") as caught:
        unpack(tmp_path / kind, tmp_path / "deep" / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "deep" / "out").exists()
    assert not (tmp_path / "out.txt").exists()


def test_an_unsafe_name_in_a_7z_archive_is_refused(tmp_path, monkeypatch):
    write_7z(tmp_path / "x.7z", {"AA/out.txt": b"bad"})
    listed = py7zr.SevenZipFile.list
    monkeypatch.setattr(py7zr.SevenZipFile, "list", lambda file: [_renamed(info) for info in listed(file)])

    def _renamed(info):
        info.filename = info.filename.replace("AA", "..")
        return info

    with pytest.raises(KitError, match="unsafe file name"):
        unpack(tmp_path / "x.7z", tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        info = tarfile.TarInfo("thing")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(KitError, match="link or device 'thing'"):
        unpack(tmp_path / "x.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_a_zip_and_a_7z_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        info = zipfile.ZipInfo("thing")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    (tmp_path / "thing").symlink_to("target")
    (tmp_path / "target").write_bytes(b"x")
    with py7zr.SevenZipFile(tmp_path / "x.7z", "w") as file:
        file.write(tmp_path / "thing", "thing")
    for name in ("x.zip", "x.7z"):
        with pytest.raises(KitError, match="link or device 'thing'"):
            unpack(tmp_path / name, tmp_path / "out")


@every_kind
def test_an_archive_made_to_fill_the_disk_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    WRITERS[kind](tmp_path / kind, {f"zeros{n}": bytes(3 << 20) for n in range(2)})
    if kind == "x.tar":  # hides nothing: its size is what it holds
        unpack(tmp_path / kind, tmp_path / "out")
        return
    with pytest.raises(KitError, match="made to fill the disk"):
        unpack(tmp_path / kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@every_kind
def test_too_many_files_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 2)
    WRITERS[kind](tmp_path / kind, CONTENT)
    with pytest.raises(KitError, match="or 2 files"):
        unpack(tmp_path / kind, tmp_path / "out")


def test_a_member_never_gives_more_than_it_announces(tmp_path):
    write_zip(tmp_path / "x.zip", {"zeros": bytes(1 << 16)})
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(
        data.replace((1 << 16).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    )
    with pytest.raises(KitError, match="damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_the_same_name_twice_is_refused(tmp_path):
    write_tar(tmp_path / "x.tar", {"a": b"1", "./a": b"2"})
    with pytest.raises(KitError, match=r"holds '(\./)?a' twice"):
        unpack(tmp_path / "x.tar", tmp_path / "out")
    write_tar(tmp_path / "x.tar", {"a": b"1", "a/b": b"2"})
    with pytest.raises(KitError, match="'a/b' below a file"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


OTHER = {
    "rar": (b"Rar!\x1a\x07\x01\x00", "unpack it with unrar, unar or 7-Zip"),
    "web page": (b"<!DOCTYPE html><title>Log in</title>", "is a web page and no archive"),
    "nothing": (b"", "is no archive the kit can read"),
    "text": (b"hello" * 300, "is no archive the kit can read"),
}


@pytest.mark.parametrize("what", OTHER)
def test_what_is_no_archive_is_named(what, tmp_path):
    content, message = OTHER[what]
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(KitError, match=message):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_encrypted_archives_are_named(tmp_path):
    with py7zr.SevenZipFile(tmp_path / "x.7z", "w", password="secret") as file:
        file.writestr(b"1", "a")
    write_zip(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag, in the directory of the archive
    (tmp_path / "x.zip").write_bytes(data)
    for name in ("x.7z", "x.zip"):
        with pytest.raises(KitError, match="encrypted; unpack it with its password"):
            unpack(tmp_path / name, tmp_path / "out")


def test_without_py7zr_the_sentence_names_it(tmp_path, monkeypatch):
    write_7z(tmp_path / "x.7z", CONTENT)
    monkeypatch.setitem(sys.modules, "py7zr", None)
    with pytest.raises(KitError, match=r"pip install -e '\.\[7z\]'"):
        unpack(tmp_path / "x.7z", tmp_path / "out")


def test_a_full_disk_is_no_damaged_archive(tmp_path, monkeypatch):
    write_zip(tmp_path / "x.zip", CONTENT)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "rename", full)
    with pytest.raises(KitError, match="the disk is full"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zip"]


# As `--from`


@pytest.mark.parametrize(
    ("name", "kind"), [("kvasir", "renamed.zip"), ("elpv", "elpv-dataset.zip"), ("headct", "a.tar.gz")]
)
def test_a_dataset_is_prepared_from_its_archive(name, kind, tmp_path):
    expected = RAW[name](tmp_path / "raw")
    WRITERS["x.zip" if kind.endswith("zip") else "x.tar.gz"](tmp_path / kind, tree(tmp_path / "raw"))
    manifest = prepare(name, tmp_path / kind)
    records = manifest.records("test")
    assert len(records) == sum(map(sum, expected.test.values()))
    assert all((manifest.root / record.image).is_file() for record in records)
    assert (manifest.root / "raw").resolve().is_relative_to(paths.data() / "downloads" / name)


@pytest.mark.parametrize(("name", "kind"), [("aitex", write_7z), ("isic", write_zip)])
def test_a_dataset_in_several_archives_is_prepared_from_their_folder_or_one_of_them(name, kind, tmp_path):
    expected = RAW[name](tmp_path / "raw")
    (tmp_path / "got").mkdir()
    names = [archive.name for archive in DATASETS[name].archives]
    for archive in names:
        folder = tmp_path / "raw" / archive.split(".")[0]
        kind(
            tmp_path / "got" / archive, {f"{folder.name}/{path}": data for path, data in tree(folder).items()}
        )
    for source in (tmp_path / "got", tmp_path / "got" / names[0]):
        manifest = prepare(name, source)
        assert len(manifest.records("test")) == sum(map(sum, expected.test.values()))
    (tmp_path / "got" / names[1]).unlink()
    with pytest.raises(KitError, match=f"nor all of {names[0]} and {names[1]}"):
        prepare(name, tmp_path / "got")


def test_an_archive_that_is_not_the_published_one_is_refused(tmp_path):
    write_zip(tmp_path / "btad.zip", CONTENT)
    with pytest.raises(KitError, match=r"is not the published btad\.zip \(its SHA-256 differs\)"):
        prepare("btad", tmp_path / "btad.zip")
    assert not (paths.data() / "downloads").exists()


def test_an_archive_of_something_else_is_named(tmp_path):
    write_zip(tmp_path / "photos.zip", CONTENT)
    with pytest.raises(KitError, match="does not hold the raw download of kvasir"):
        prepare("kvasir", tmp_path / "photos.zip")


# Killed


def test_a_killed_preparation_leaves_nothing_that_looks_whole(tmp_path, home):
    """SIGKILL or Ctrl-C at six moments: the dataset is absent or whole, and can be made again."""
    RAW["sdd"](tmp_path / "raw")
    write_zip(tmp_path / "KSDD.zip", tree(tmp_path / "raw"))
    script = "import sys; from data_prep.prepare import prepare; from pathlib import Path; " + (
        "print('go', flush=True); prepare('sdd', Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "KSDD.zip")]

    def start() -> subprocess.Popen:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.readline()
        return process

    begin = time.perf_counter()
    assert start().wait() == 0
    seconds = time.perf_counter() - begin
    whole = (home / "data" / "sdd" / "meta.json").read_bytes()
    outcomes = set()
    for moment in range(6):
        shutil.rmtree(home)
        process = start()
        time.sleep(seconds * moment / 6)
        process.send_signal(signal.SIGKILL if moment % 2 else signal.SIGINT)
        process.wait()
        there = (home / "data" / "sdd").exists()
        outcomes.add(there)
        if there:
            assert (home / "data" / "sdd" / "meta.json").read_bytes() == whole
        assert len(prepare("sdd", tmp_path / "KSDD.zip").records("test")) == 7
        assert (home / "data" / "sdd" / "meta.json").read_bytes() == whole
        assert not list((home / "data").rglob("*.partial"))
    assert False in outcomes
