"""The arrays of a feature cache on disk: one row an image, written and checked row by row."""

import mmap
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fap_lib.core.errors import KitError

_ROW = np.dtype(
    [("image_size", "u8"), ("image_time", "u8"), ("mask_size", "u8"), ("mask_time", "u8"), ("checksum", "u4")]
)

_COPIED = 8  # rows held in memory at once

Stamp = tuple[int, int, int, int]
"""Size and modification time of an image, then of its mask."""


def read_rows(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A copy of some rows of a memory-mapped array. The pages read are let go, so that memory does not
    grow with the dataset (the system still keeps them for the next reader, as long as it has room)."""
    copy = np.asarray(array[index])
    if isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)
    return copy


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
            table = np.array(_load(self.path("rows")))
            data = [_load(self.path(name)) for name in ("image", "patches", "masks")]
            fits = table.dtype == _ROW and all(
                array.shape == self.arrays[name][0] and array.dtype == self.arrays[name][1]
                for name, array in zip(("image", "patches", "masks"), data, strict=True)
            )
        except Exception:  # whatever NumPy stumbles over, the answer is the same: make it again
            fits = False
        if not fits or table.shape != (count,):
            for name in self.arrays:
                _remove(self.path(name))
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
        """Copy all rows of another cache into this one, from row `start` on; the table of rows last. Of a
        cache with a damaged file nothing is taken."""
        try:
            found = {name: _load(source / f"{name}.npy") for name in self.arrays}
        except Exception:  # see `stale`
            return
        if any(
            (rows.shape[1:], rows.dtype) != (self.arrays[name][0][1:], self.arrays[name][1])
            for name, rows in found.items()
        ):
            return
        for name, rows in found.items():
            with open(self.path(name), "r+b") as file:
                file.seek(_data_offset(file) + start * rows[0].nbytes)
                for first in range(0, len(rows), _COPIED):
                    file.write(rows[first : first + _COPIED].tobytes())
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


def _load(path: Path) -> np.ndarray:
    """A memory-mapped array; never a pickle or an archive, whatever a damaged file begins with."""
    return np.lib.format.open_memmap(path, mode="r")


def _remove(path: Path) -> None:
    """Remove whatever stands in the place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
