"""The parsers of files that others made, fed with whatever hypothesis can think of for some minutes each."""

import io
import json
import pickle
import shutil
import struct
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import py7zr
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from data_prep.archives import unpack
from fap_lib.checkpoints import save_prompts
from fap_lib.core.errors import KitError
from fap_lib.data.manifest import read_manifest
from fap_lib.official.inspection import describe
from tests.campaign.log import Log
from tests.campaign.world import SETTINGS, World
from tests.toy import official

BATCH = 200
"""Examples between two looks at the clock."""

PATIENCE = 5.0
"""Seconds of processor time that reading or refusing one small file may take."""

LONGEST = 900
"""Characters of a refusal."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    [
        *("img_path", "mask_path", "cls_name", "specie_name", "anomaly", "test", "train", "Test", "image"),
        *("name", "mask_rule", "digest", "draw", "split", "mask", "label", "category", "defect", "nonzero"),
        *("a.png", "../x", "/x", ""),
    ]
)


@st.composite
def edited(draw: st.DrawFn, content: bytes, edits: int = 4) -> bytes:
    """Some bytes of a file exchanged for others, removed, or repeated; now and then its end is missing."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, edits))):
        start = draw(st.integers(0, max(0, len(found) - 1)))
        end = start + draw(st.integers(0, 8))
        kind = draw(st.sampled_from(["other", "flip", "repeat"]))
        if kind == "other":
            found[start:end] = draw(st.binary(max_size=8))
        elif kind == "flip" and found:
            found[start] ^= 1 << draw(st.integers(0, 7))
        else:
            found[start:start] = found[start:end]
    return bytes(found[: draw(st.integers(0, len(found)))] if draw(st.integers(0, 9)) == 0 else found)


def refuses(call: Callable[[], object]) -> bool:
    """Whether a reader refused, in one sentence; anything but that and a result is an error."""
    begun = time.process_time()
    try:
        call()
        return False
    except KitError as error:
        said = str(error)
        assert len(said.splitlines()) == 1, f"a refusal of several lines: {said!r}"
        assert len(said) < LONGEST, f"a refusal of {len(said)} characters"
        return True
    finally:
        spent = time.process_time() - begun
        assert spent < PATIENCE, f"it took {spent:.0f} s"


# --- manifests ---


def manifests(world: World) -> st.SearchStrategy[dict[str, bytes]]:
    """The files of a dataset's folder: the kit's own, edited, or any JSON under the words they use."""
    folder = world.home / "data" / "own"
    entry = st.dictionaries(WORDS, VALUES | WORDS, max_size=6)
    values = VALUES | WORDS | st.lists(entry, max_size=3)
    anything = (
        st.dictionaries(WORDS, values | st.dictionaries(WORDS, values, max_size=3), max_size=4) | VALUES
    )
    text = anything.map(lambda value: json.dumps(value).encode())

    def file(name: str) -> st.SearchStrategy[bytes]:
        own = (folder / name).read_bytes()
        return st.just(own) | edited(own) | text

    names = ("meta.json", "dataset.json", "manifest.jsonl")
    needed = {"meta.json": file("meta.json")}
    return st.fixed_dictionaries(needed, optional={name: file(name) for name in names[1:]})


def read_any_manifest(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    refuses(lambda: read_manifest(folder))


# --- checkpoints ---


def saved(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def repacked(content: bytes, name: str, member: bytes) -> bytes:
    """A zip with one member exchanged, its checksums right, so that its reader gets to see it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, member if info.filename.endswith(name) else old.read(info))
    return file.getvalue()


def checkpoints(world: World) -> st.SearchStrategy[bytes]:
    """The authors' kind as torch writes it now and wrote it once, pickles inside it, the kit's kind."""
    now = saved({"prompt_learner": official()})
    once = saved({"prompt_learner": official()}, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(io.BytesIO(now)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        inside = archive.read(name)
    path = world.home / "fuzzed.safetensors"
    save_prompts(path, world.model(), world.backbone, SETTINGS, {"dataset": "toy"})
    own = path.read_bytes()
    length = 8 + int.from_bytes(own[:8], "little")
    plain = VALUES.map(lambda value: pickle.dumps(value, 2))

    def header(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + own[length:]

    about = st.dictionaries(WORDS | st.just("format"), VALUES).map(json.dumps) | st.text(max_size=50)
    meta = about.map(lambda text: json.dumps({"__metadata__": {"faprompt": text, "digest": "0"}}).encode())
    return st.one_of(
        edited(now),
        edited(once),
        (edited(inside) | plain).map(lambda member: repacked(now, "data.pkl", member)),
        edited(own[: length + 64]).map(lambda start: start + own[length + 64 :]),
        (edited(own[8:length]) | meta | VALUES.map(lambda value: json.dumps(value).encode())).map(header),
        st.binary(max_size=64),
    )


def read_any_checkpoint(content: bytes, folder: Path) -> None:
    for name in ("x.pth", "x.safetensors"):
        path = folder / name
        path.write_bytes(content)
        refuses(lambda path=path: describe(path))


# --- archives ---

NAMES = st.text(max_size=12) | st.sampled_from(
    [
        "a/b",
        "../x",
        "/x",
        "a/../../x",
        "C:\\x",
        ".complete.json",
        "a/" * 200 + "x",
        "x" * 300,
        "a\nb",
        "\ud800",
    ]
)


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """A tar whose members lie about themselves."""
    file = io.BytesIO()
    form = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    for name in draw(st.lists(NAMES, max_size=4)):
        info = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
        info.type = draw(st.sampled_from([*b"0125347LKSxgMN"])).to_bytes(1, "big")
        info.linkname = draw(st.sampled_from(["", "../../x", "/etc/passwd"]))
        info.size = draw(st.sampled_from([0, 1, 511, 512, 10**7]) | st.integers(-600, 2**33))
        info.mode = draw(st.integers(0, 0o7777))
        with suppress(ValueError):  # what the format cannot hold
            file.write(info.tobuf(form, "utf-8") + b"x" * draw(st.sampled_from([0, 512])))
    return file.getvalue() + bytes(1024)


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    """A zip with any names, kinds and flags."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in draw(st.lists(NAMES, max_size=4, unique=True)):
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.external_attr = draw(st.integers(0, 2**32 - 1))
            info.compress_type = draw(st.sampled_from([0, 8, 12, 14]))
            archive.writestr(info, b"x" * draw(st.integers(0, 99)))
    return file.getvalue()


def archives(world: World) -> st.SearchStrategy[bytes]:
    """Archives made of odd members, and whole ones edited."""
    plain = world.home / "fuzzed"
    plain.mkdir(exist_ok=True)
    for number in range(3):
        (plain / f"{number}.txt").write_text(f"{number}" * 99)
    whole = []
    for kind in ("zip", "tar", "gztar", "bztar", "xztar"):
        whole.append(Path(shutil.make_archive(str(world.home / kind), kind, plain)).read_bytes())
    with py7zr.SevenZipFile(world.home / "x.7z", "w") as archive:
        archive.writeall(plain, "x")
    whole.append((world.home / "x.7z").read_bytes())
    made = tars() | zips()
    return st.one_of(made, made.flatmap(edited), *map(edited, whole))


def read_any_archive(content: bytes, folder: Path) -> None:
    archive, place = folder / "x", folder / "deep" / "down" / "place"
    archive.write_bytes(content)
    refused = refuses(lambda: unpack(archive, place))
    found = {path for path in folder.rglob("*") if place not in (path, *path.parents)}
    assert found <= {archive, folder / "deep", folder / "deep" / "down"}, f"beside it there is {found}"
    assert not (refused and place.exists()), "something is left of an archive that was refused"
    links = [path for path in place.rglob("*") if path.is_symlink()]
    assert not links, f"links: {links}"


PARSERS: dict[str, tuple[Callable, Callable]] = {
    "manifests": (manifests, read_any_manifest),
    "checkpoints": (checkpoints, read_any_checkpoint),
    "archives": (archives, read_any_archive),
}


def fuzz(world: World, minutes: float, log: Log) -> None:
    """Try each parser for some minutes. What falls is kept beside the log, as small as hypothesis can make
    it."""
    world.restore()
    for name, (strategy, read) in PARSERS.items():
        kind = f"fuzzed: {name}"
        before = [case for case in log.cases if case.kind == kind]
        number, spent = len(before), sum(case.seconds for case in before)
        examples = strategy(world)
        while spent < 60 * minutes:
            chance = log.chance(kind, number).randrange(2**32)
            tried, wrong = _batch(examples, read, chance, world.home / "one")
            log.note(kind, number, f"{tried} files", wrong, count=tried)
            if wrong:
                kept = log.path.parent / f"found-{name}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(world.home / "one", kept, symlinks=True)
            number, spent = number + 1, spent + log.cases[-1].seconds


def _batch(examples: st.SearchStrategy, read: Callable, chance: int, folder: Path) -> tuple[int, str | None]:
    """How many examples were tried, and what fell first."""
    tried = 0

    @seed(chance)
    @settings(max_examples=BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(examples)
    def trial(example: object) -> None:
        nonlocal tried
        tried += 1
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        read(example, folder)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial()
    except Exception as error:
        return tried, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return tried, None
