"""Prompts on disk: one file a checkpoint.

A checkpoint is one safetensors file: the tensors, and in its header a JSON text that says what they
belong to. One file cannot come apart, and a safetensors file cannot hold code.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from torch import Tensor

from fap_lib import __version__
from fap_lib.clip.backbone import Backbone
from fap_lib.core import tensors
from fap_lib.core.config import FeatureSettings, ModelSettings
from fap_lib.core.errors import KitError, shown
from fap_lib.model import FAPrompt

FORMAT = 2
"""Version of the file's layout; a file of another version is refused, not guessed at. 1 had no digest."""

_REMEDY = "train these prompts again"


_ENTRY = "faprompt"
"""The header's entry that says what the tensors belong to."""


class _Backbone(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    weights: str
    trained: bool


class Header(BaseModel):
    """What a checkpoint says about itself; the settings are checked where they are used."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: int
    kit: str
    backbone: _Backbone
    model: dict[str, Any]
    features: dict[str, Any]
    about: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded prompt learner and what its file says about it."""

    model: FAPrompt
    features: FeatureSettings
    about: dict[str, Any]


def save_prompts(
    path: Path, model: FAPrompt, backbone: Backbone, features: FeatureSettings, about: dict[str, Any]
) -> None:
    """Write a checkpoint atomically.

    Args:
        features: how the features the prompts were trained on were made.
        about: further facts to keep (training set, epochs, seed); JSON values.
    """
    header = {
        "format": FORMAT,
        "kit": __version__,
        "backbone": {"name": backbone.name, "weights": backbone.weights_sha256, "trained": backbone.trained},
        "model": model.settings.model_dump(),
        "features": features.model_dump(),
        "about": about,
    }
    tensors.write_tensors(path, model.state_dict(), {_ENTRY: json.dumps(header)})


def read_header(path: Path) -> dict[str, Any]:
    """What a checkpoint says about itself: the fields of a `Header`.

    Raises:
        KitError: no such file, not a checkpoint, damaged, one of another kit version, or settings that cannot
            be.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a checkpoint; see `read_header`."""
    if not path.is_file():
        raise KitError(
            f"there is no checkpoint at {path}; train prompts with notebook 4, or run `make demo`, "
            "which leaves some in runs/demo/training."
        )
    text = tensors.read_header(path, _REMEDY).get(_ENTRY)
    if text is None:
        raise KitError(f"{path} is a safetensors file, but not a checkpoint of the kit.")
    try:
        header = json.loads(text)
        found = header["format"], header.get("kit", "unknown")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KitError(f"{path} is damaged: its header cannot be read; {_REMEDY}.") from error
    if found[0] != FORMAT:
        older = f" (`python -m fap_lib.checkpoints {path}` rewrites it, if you trust it)"
        raise KitError(
            f"the checkpoint {path} has format {shown(found[0])} (kit {shown(found[1])}), this kit "
            f"{__version__} reads format {FORMAT}{older if found[0] == 1 else ''}; use that kit version, or "
            "train again."
        )
    state, _ = tensors.read_tensors(path, _REMEDY)
    try:
        known = Header(**header).model_dump()
    except (ValidationError, TypeError) as error:
        raise KitError(f"{path} is damaged: its header cannot be read; {_REMEDY}.") from error
    for name, kind in (("model", ModelSettings), ("features", FeatureSettings)):
        known[name] = kind.parse(known[name]).model_dump()
    return known, state


def load_prompts(path: Path, backbone: Backbone) -> Checkpoint:
    """Load a checkpoint for the backbone it was trained on.

    Raises:
        KitError: not a checkpoint, another backbone, or tensors of another shape.
    """
    header, state = _read(path)
    wanted = header["backbone"]
    if wanted["weights"] != backbone.weights_sha256:
        raise KitError(
            f"the checkpoint {path} was trained on the backbone {wanted['name']} with weights "
            f"{wanted['weights'][:12]}, but loaded is {backbone.name} with weights "
            f"{backbone.weights_sha256[:12]}; load the backbone it was trained on."
        )
    settings = ModelSettings.parse(header["model"])
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    fill(model, state, path)
    return Checkpoint(model, FeatureSettings.parse(header["features"]), header["about"])


def fill(model: FAPrompt, state: dict[str, Tensor], path: Path) -> None:
    """Copy `state` into `model`; `path` names its file in messages.

    Raises:
        KitError: a tensor is missing, superfluous or of another shape.
    """
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        if name not in state or name not in wanted:
            raise KitError(f"{path} does not fit: {name} is {'missing' if name in wanted else 'unknown'}.")
        if state[name].shape != wanted[name].shape:
            raise KitError(
                f"{path} does not fit: {name} has the shape {tuple(state[name].shape)}, "
                f"needed is {tuple(wanted[name].shape)}."
            )
    model.load_state_dict(state)


def seal(path: Path) -> None:
    """Rewrite a checkpoint of format 1, which has no digest, as one of this format; the tensors stay as they
    are.

    Raises:
        KitError: it is none.
    """
    header = json.loads(tensors.read_header(path, _REMEDY).get(_ENTRY, "{}"))
    if header.get("format") != 1:
        raise KitError(f"{path} is no checkpoint of format 1.")
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.write_tensors(path, state, {_ENTRY: json.dumps({**header, "format": FORMAT})})


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        seal(Path(argument))
