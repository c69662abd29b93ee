"""Tensors on disk under a digest: what the kit writes it reads back as it was, or not at all.

A file is safetensors, which cannot hold code. Its header has a SHA-256 over the other entries of the header
and over the names, types, shapes and bytes of all tensors, so that no flipped bit passes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic

DIGEST = "digest"
"""The header's entry with the digest."""


class Unsealed(KitError):
    """The file is whole safetensors, but has no digest: an older kit wrote it, or another program."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors and a header atomically, with their digest.

    Raises:
        KitError: the disk is full or the folder is not writable.
    """
    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic(path) as temporary:
        save_file(held, temporary, metadata={**header, DIGEST: digest(held, header)})
        _sort_header(temporary)


def read_tensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file that `write_tensors` wrote.

    Args:
        remedy: the end of the message: what to do about a damaged file.

    Raises:
        Unsealed: there is no digest in its header.
        KitError: not safetensors, or not as it was written.
    """
    with _opened(path, remedy) as file:
        header = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if DIGEST not in header:
        raise Unsealed(f"{path} has no digest, so nobody can say whether it is whole; {remedy}.")
    if header.pop(DIGEST) != digest(tensors, header):
        raise KitError(f"{path} is damaged: its content is not what its digest says; {remedy}.")
    return tensors, header


def read_header(path: Path, remedy: str) -> dict[str, str]:
    """The header alone, which is not checked against the digest: to say what a file is, not to use it.

    Raises:
        KitError: not safetensors.
    """
    with _opened(path, remedy) as file:
        return dict(file.metadata() or {})


def state_of(model: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    """All that a training goes on with, for `write_tensors`; the optimiser's settings are left out."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
    return tensors


def put_back(tensors: Mapping[str, Tensor], model: nn.Module, optimiser: Optimizer) -> None:
    """Give model and optimiser the state that `state_of` took."""
    learned: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        whose, name = key.split("/", 1)
        if whose == "model":
            learned[name] = value
        else:
            index, name = name.split("/")
            moments.setdefault(int(index), {})[name] = value
    model.load_state_dict(learned)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def digest(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """SHA-256 of tensors and header."""
    found = hashlib.sha256(json.dumps(sorted(header.items())).encode())
    for name, value in sorted(tensors.items()):
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _sort_header(path: Path) -> None:
    """Put the entries of the header in order. safetensors shuffles them, and equal content should be an equal
    file."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        content = json.loads(file.read(length))
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except Exception as error:  # whatever the parser stumbles over, the file is not one
        raise KitError(f"{path} is damaged, or no file of tensors; {remedy}.") from error
