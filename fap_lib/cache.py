"""CLIP features on disk: each image passes the frozen image tower once.

A cache is a folder with three plain arrays (global features, patch features, masks packed to bits),
one row an image, and a table of what each row was made from. A row counts only while its image and
mask are unchanged and its checksum holds; every other row is made again. The folder's name is a hash
of what all rows depend on: weights, preprocessing, image size, blocks, precision, kit code, records.
"""

import fcntl
import hashlib
import json
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fap_lib import paths
from fap_lib.clip import Backbone
from fap_lib.config import FeatureSettings
from fap_lib.errors import KitError
from fap_lib.files import disk_errors, locked, write_json
from fap_lib.image_tower import ImageTower
from fap_lib.images import load_mask, open_image, rgb
from fap_lib.manifest import Manifest, Record, Split
from fap_lib.progress import bar

VERSION = 1
"""Raise it when a change of code changes features, masks or their layout."""

BATCH = 8
"""Images encoded at once."""

COMPLETE = "complete.json"
_ROW = np.dtype(
    [("image_size", "u8"), ("image_time", "u8"), ("mask_size", "u8"), ("mask_time", "u8"), ("checksum", "u4")]
)

Stamp = tuple[int, int, int, int]
"""Size and modification time of an image, then of its mask."""


class FeatureCache:
    """Features, masks and records of one split of a dataset, memory-mapped and read-only."""

    def __init__(self, folder: Path, manifest: Manifest, split: Split, image_size: int):
        self.name = manifest.name
        self.root = manifest.root
        self.records = manifest.records(split)
        self.image_size = image_size
        self.digest = folder.name
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        self.patches = np.load(folder / "patches.npy", mmap_mode="r")
        self._masks = np.load(folder / "masks.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> list[int | None]:
        return [record.label for record in self.records]

    @property
    def has_masks(self) -> bool:
        """Whether every anomalous image has a mask, so that pixel metrics exist."""
        return all(record.mask or record.label == 0 for record in self.records)

    def features(self, index: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Unit global (b, D) and patch (b, N, D) features, float32."""
        image, patches = (torch.from_numpy(read_rows(array, index)) for array in (self.image, self.patches))
        return image.to(device).float(), patches.to(device).float()

    def masks(self, index: np.ndarray) -> Tensor:
        """Masks (b, H, W) bool; all False for normal images and for images without a mask."""
        size = self.image_size
        bits = np.unpackbits(read_rows(self._masks, index), axis=1, count=size * size)
        return torch.from_numpy(bits.reshape(-1, size, size).view(bool))

    def part(self, index: np.ndarray) -> "FeatureCache":
        """Some of the images as a cache of their own, in memory; for trying things on a few."""
        few = copy(self)
        few.records = [self.records[i] for i in index]
        few.digest = hashlib.sha256(f"{self.digest} {list(map(int, index))}".encode()).hexdigest()
        few.image, few.patches = read_rows(self.image, index), read_rows(self.patches, index)
        few._masks = read_rows(self._masks, index)
        return few


def read_rows(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A copy of some rows of a memory-mapped array. The pages read are let go, so that memory does not
    grow with the dataset (the system still keeps them for the next reader, as long as it has room)."""
    copy = np.asarray(array[index])
    if isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)
    return copy


def features(
    manifest: Manifest, split: Split, backbone: Backbone, settings: FeatureSettings, batch_size: int = BATCH
) -> FeatureCache:
    """Open the cache of a split, after making every row that is missing, outdated or damaged.

    Raises:
        KitError: an image or mask is missing or unreadable, the disk is full, a feature is not finite,
            the GPU has no memory left.
    """
    tower = backbone.image_tower(settings.image_size, settings.vv_blocks, settings.class_norm)
    records = manifest.records(split)
    key = _key(manifest, split, backbone, settings)
    folder = _folder(manifest, split, key)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            store = Store(folder, len(records), tower.grid**2, backbone.patch_width, settings.image_size)
            stamps = [_stamp(manifest, record) for record in records]
            stale = store.stale(stamps)
            if len(stale):
                (folder / COMPLETE).unlink(missing_ok=True)
                store.allocate()
                _fill(store, manifest, records, stamps, stale, backbone, tower, batch_size)
            if not (folder / COMPLETE).exists():
                write_json(folder / COMPLETE, {name: key[name] for name in key if name != "records"})
    return FeatureCache(folder, manifest, split, settings.image_size)


def part(manifest: Manifest, split: Split, number: int, count: int) -> Manifest:
    """Shard `number` (from 0) of `count`: a run of a split's records, of a cache of its own.

    Shards end where batches end, so each image is encoded in the company it has in the whole.

    Raises:
        KitError: fewer batches than shards.
    """
    records = manifest.records(split)
    batches = -(-len(records) // BATCH)
    if count > batches:
        raise KitError(
            f"{manifest.name} has {len(records)} images, which is {batches} batches of {BATCH}; "
            f"it cannot be cut into {count} shards."
        )
    start, end = (BATCH * (batches * place // count) for place in (number, number + 1))
    return replace(manifest, splits={split: records[start:end]})


def gather(
    manifest: Manifest, split: Split, backbone: Backbone, settings: FeatureSettings, count: int
) -> FeatureCache:
    """Join the caches of `count` shards into the whole split's, and remove them one by one.

    The disk holds one shard twice at most. A row that no shard has, or a bad one, is made here.
    """
    tower = backbone.image_tower(settings.image_size, settings.vv_blocks, settings.class_norm)
    folder = _folder(manifest, split, _key(manifest, split, backbone, settings))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            total = len(manifest.records(split))
            store = Store(folder, total, tower.grid**2, backbone.patch_width, settings.image_size)
            store.allocate()
            start = 0
            for number in range(count):
                shard = part(manifest, split, number, count)
                source = _folder(shard, split, _key(shard, split, backbone, settings))
                if source != folder and (source / COMPLETE).exists():
                    store.adopt(source, start)
                    shutil.rmtree(source)
                start += len(shard.records(split))
    return features(manifest, split, backbone, settings)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time fills a cache; the others wait, and then find it filled.

    The lock is given back and not only closed: decoding processes, which an error may leave for a while, have
    it open too.
    """
    with locked(folder / "lock") as lock:
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


def _key(manifest: Manifest, split: Split, backbone: Backbone, settings: FeatureSettings) -> dict[str, Any]:
    """All that the rows of a cache depend on."""
    return {
        "version": VERSION,
        "weights": backbone.weights_sha256,
        "mask_rule": manifest.mask_rule,
        "image_size": settings.image_size,
        "vv_blocks": settings.vv_blocks,
        "class_norm": settings.class_norm,
        "precision": settings.precision,
        "root": str(manifest.root),
        "records": [[record.image, record.mask] for record in manifest.records(split)],
    }


def _folder(manifest: Manifest, split: Split, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return paths.cache() / f"{manifest.name}-{split}-{digest}"


class Store:
    """The files of a cache, written row by row with plain writes (a full disk is then an error; through
    a memory map it would kill the process)."""

    def __init__(self, folder: Path, count: int, patches: int, width: int, image_size: int):
        self.folder = folder
        self.arrays: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "image": ((count, width), np.dtype("f2")),
            "patches": ((count, patches, width), np.dtype("f2")),
            "masks": ((count, -(-image_size * image_size // 8)), np.dtype("u1")),
            "rows": ((count,), _ROW),
        }

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def allocate(self) -> None:
        """Create the files that are not there yet, at full length (holes take no space)."""
        wanted = [name for name in self.arrays if not self.path(name).exists()]
        need = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in (self.arrays[n] for n in wanted))
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise KitError(
                f"the features need {need / 1e9:.1f} GB in {self.folder}, but {free / 1e9:.1f} GB are free; "
                "free some space, or set FAP_HOME to a larger disk."
            )
        for name in wanted:
            shape, dtype = self.arrays[name]
            temporary = self.folder / f".{name}.new"
            np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
            os.replace(temporary, self.path(name))

    def stale(self, stamps: list[Stamp]) -> np.ndarray:
        """Indices of the rows that cannot be trusted."""
        count = len(stamps)
        try:
            table = np.load(self.path("rows"))
            data = [np.load(self.path(name), mmap_mode="r") for name in ("image", "patches", "masks")]
            fits = table.dtype == _ROW and all(
                array.shape == self.arrays[name][0] and array.dtype == self.arrays[name][1]
                for name, array in zip(("image", "patches", "masks"), data, strict=True)
            )
        except (FileNotFoundError, ValueError, EOFError):
            fits = False
        if not fits or table.shape != (count,):
            for name in self.arrays:
                self.path(name).unlink(missing_ok=True)
            return np.arange(count)

        def trusted(index: int) -> bool:
            row = table[index]
            return tuple(int(value) for value in row)[:4] == stamps[index] and row["checksum"] == _checksum(
                *(read_rows(array, np.array([index])) for array in data)
            )

        with ThreadPoolExecutor() as pool:  # crc32 of a large buffer runs outside the interpreter lock
            good = list(pool.map(trusted, range(count)))
        return np.flatnonzero(~np.array(good, dtype=bool))

    def adopt(self, source: Path, start: int) -> None:
        """Copy all rows of another cache into this one, from row `start` on; the table of rows last."""
        for name in self.arrays:
            rows = np.load(source / f"{name}.npy", mmap_mode="r")
            with open(self.path(name), "r+b") as file:
                file.seek(_data_offset(file) + start * rows[0].nbytes)
                for first in range(0, len(rows), BATCH):
                    file.write(rows[first : first + BATCH].tobytes())
                file.flush()
                os.fsync(file.fileno())

    @contextmanager
    def writing(self) -> Iterator["_Writer"]:
        files = {name: open(self.path(name), "r+b") for name in self.arrays}  # noqa: SIM115
        try:
            yield _Writer(files)
        finally:
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()


class _Writer:
    def __init__(self, files: dict):
        self.files = files
        self.offsets = {name: _data_offset(file) for name, file in files.items()}

    def put(self, index: int, stamp: Stamp, **arrays: np.ndarray) -> None:
        """Write one row; its entry in the table of rows comes last."""
        row = np.array((*stamp, _checksum(*arrays.values())), dtype=_ROW)
        for name, value in {**arrays, "rows": row}.items():
            file = self.files[name]
            file.seek(self.offsets[name] + index * value.nbytes)
            file.write(value.tobytes())


def _data_offset(file: BinaryIO) -> int:
    """Where the values begin in an open `.npy` file."""
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()


def _checksum(*arrays: np.ndarray) -> int:
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array).data, value)
    return value


def _stamp(manifest: Manifest, record: Record) -> Stamp:
    """Size and modification time of an image and of its mask (zeros without one)."""
    image = _stat(manifest.root / record.image, "image")
    return (*image, *(_stat(manifest.root / record.mask, "mask") if record.mask else (0, 0)))


def _stat(path: Path, what: str) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise KitError(
            f"the {what} {path} is listed in the manifest but cannot be found; restore it, or prepare the "
            "dataset again."
        ) from error
    return status.st_size, status.st_mtime_ns


def _fill(
    store: Store,
    manifest: Manifest,
    records: list[Record],
    stamps: list[Stamp],
    stale: np.ndarray,
    backbone: Backbone,
    tower: ImageTower,
    batch_size: int,
) -> None:
    chunks = [stale[start : start + batch_size].tolist() for start in range(0, len(stale), batch_size)]
    title = f"features of {manifest.name}"
    with store.writing() as writer:
        pairs_of_chunks = decoded(manifest, records, tower.image_size, chunks)
        for chunk, pairs in bar(zip(chunks, pairs_of_chunks, strict=True), title, len(chunks)):
            image, patches = encode(backbone, tower, np.stack([pixels for pixels, _ in pairs]))
            for row, index in enumerate(chunk):
                bits = np.packbits(pairs[row][1])
                writer.put(index, stamps[index], image=image[row], patches=patches[row], masks=bits)


def decoded(
    manifest: Manifest, records: list[Record], size: int, chunks: list[list[int]]
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Images and masks (see `load_pair`) of each chunk of records, decoded ahead in worker processes.

    Raises:
        KitError: an image or mask is missing, unreadable, or does not fit the other.
    """
    loader = DataLoader(
        _Pairs(manifest, records, size),
        batch_sampler=chunks,
        collate_fn=list,
        num_workers=min(torch.get_num_threads(), len(chunks) // 2),  # none for a handful of images
        generator=torch.Generator(),  # without one, the loader would move torch's global random state
    )
    for pairs in loader:
        for pair in pairs:
            if isinstance(pair, KitError):
                raise pair
        yield pairs


class _Pairs(Dataset):
    """What `load_pair` says of each record. An error is returned: raised in a worker, it would arrive
    wrapped in a traceback."""

    def __init__(self, manifest: Manifest, records: list[Record], size: int):
        self.manifest, self.records, self.size = manifest, records, size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray] | KitError:
        try:
            return load_pair(self.manifest, self.records[index], self.size)
        except KitError as error:
            return error


def load_pair(manifest: Manifest, record: Record, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (size, size, 3) uint8 and mask (size, size) bool of a record; no mask is all False."""
    image = open_image(manifest.root / record.image)
    if record.mask is None:
        return rgb(image, size), np.zeros((size, size), dtype=bool)
    return rgb(image, size), load_mask(manifest.root / record.mask, manifest.mask_rule, image.size, size)


def encode(backbone: Backbone, tower: ImageTower, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit features of RGB images (B, H, W, 3) uint8, as float16: global (B, D), patches (B, N, D).

    Raises:
        KitError: the precision overflowed, or the GPU has no memory left.
    """
    try:
        raw = tower(backbone.normalise(images))
    except torch.cuda.OutOfMemoryError as error:
        raise KitError(
            f"the GPU has no memory left to encode {len(images)} images at once; "
            f"set the feature batch size to {max(1, len(images) // 2)}."
        ) from error
    image = F.normalize(raw.image.float(), dim=-1)
    patches = F.normalize(raw.tokens[:, 1:].float(), dim=-1)
    if not bool(image.isfinite().all() and patches.isfinite().all()):
        raise KitError("a CLIP feature is not a finite number; set precision to float32 or bfloat16.")
    return image.half().cpu().numpy(), patches.half().cpu().numpy()
