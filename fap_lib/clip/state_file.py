"""Files of tensors, read without executing what they hold; and what a file is that is none."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fap_lib.core.errors import KitError
from fap_lib.core.tensors import Unsealed, read_tensors

_PICKLED = (b"PK", b"\x80")
"""How files of `torch.save` begin: now, and before torch 1.6."""


def read_state(path: Path) -> Any:
    """The content of a `.safetensors` file or of one written by `torch.save`, on the CPU.

    Raises:
        KitError: missing, damaged, not a file of tensors, or one that wants to execute code.
    """
    if not path.is_file():
        raise KitError(f"there are no weights at {path}; check the path.")
    if found := impostor(path):
        raise KitError(f"{path} is {found}, not a file of weights; fetch it again.")
    if not (is_safetensors(path) or _head(path).startswith(_PICKLED)):
        raise KitError(f"{path} is not a file of weights; it was not written by torch or safetensors.")
    try:
        if is_safetensors(path):
            try:
                return read_tensors(path, "write it again, or fetch it again")[0]
            except Unsealed:
                return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except KitError:
        raise
    except pickle.UnpicklingError as error:
        raise KitError(
            f"{path} was not opened: it wants to execute code instead of only holding weights; "
            "use a safetensors file, or the file its authors published."
        ) from error
    except Exception as error:  # damage inside a pickle can make torch's reader stumble in any way
        if "TorchScript" in str(error):
            raise KitError(
                f"{path} was not opened: it is a TorchScript archive, which holds code, and not OpenAI's; "
                "save its state dict as a safetensors file."
            ) from error
        raise KitError(
            f"the weights {path} cannot be read; the file may be damaged, fetch it again."
        ) from error


def is_safetensors(path: Path) -> bool:
    """Whether a file is meant as safetensors, by its name or its first bytes."""
    return path.suffix == ".safetensors" or _head(path)[8:9] == b"{"


def impostor(path: Path) -> str | None:
    """What a file is that a download left in place of weights; None where it may be weights."""
    head = _head(path).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page (an error or a login page, saved under this name)"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (the name of a file, without its content)"
    return None if path.stat().st_size else "empty"


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror}).") from error
