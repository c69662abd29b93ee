"""The door for files that others made: parsed without executing anything, bounded, and checked before use.

Whatever a parser stumbles over, a user reads one sentence: the file is not what it should be.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fap_lib.core.errors import KitError, shown

BYTES = 4 << 30
"""What the arrays of one file may take in memory."""


@contextmanager
def door(path: Path, what: str) -> Iterator[None]:
    """Turn anything that goes wrong with a foreign file into one sentence.

    Args:
        what: what the file should be, such as "an official checkpoint of FAPrompt".

    Raises:
        KitError: in place of every other error.
    """
    try:
        yield
    except KitError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise KitError(
            f"{path} is not {what}, or is damaged ({type(error).__name__}: {said}); fetch it again."
        ) from error


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file. NumPy's own reader asks for the memory that a header announces; this one
    takes no header's word for more than the file holds.

    Raises:
        KitError: not such a file, too large, or an array of objects.
    """
    found, left = {}, BYTES
    with door(path, "an .npz file"), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            left -= info.file_size
            if left < 0:
                raise KitError(f"{path} unpacks to more than {BYTES >> 30} GB; do not use it.")
            with archive.open(info) as member:
                content = member.read(info.file_size)
            found[info.filename.removesuffix(".npy")] = _array(content)
    return found


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[np.lib.format.read_magic(file)](file)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    count = int(np.prod(shape, dtype=object))
    if count < 0 or count * dtype.itemsize != len(content) - file.tell():
        raise ValueError("an array of another size than announced")
    values = np.frombuffer(content, dtype, count, file.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def check_tensors(tensors: Mapping[Any, Any], path: Path, what: str, most: int = BYTES) -> None:
    """Refuse anything but named, dense, finite tensors of numbers that are really there.

    Args:
        most: bytes of all of them in float32.

    Raises:
        KitError: names the entry.
    """
    import torch

    total = 0
    for name, value in tensors.items():
        problem = ""
        if not isinstance(name, str):
            problem = "has a name that is no text"
        elif not isinstance(value, torch.Tensor):
            problem = "is no tensor"
        elif value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
            problem = "is no dense tensor"
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            problem = "claims more values than the file holds"
        elif value.is_complex() or (value.is_floating_point() and not bool(value.isfinite().all())):
            problem = "holds a value that is not a finite number"
        else:
            total += 4 * value.numel()
        if not problem and total > most:
            problem = f"is more than the {most >> 20} MB that the file may take"
        if problem:
            raise KitError(f"{path} is not {what}: {shown(name)} {problem}.")
