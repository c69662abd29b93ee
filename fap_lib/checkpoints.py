"""Prompts on disk: one file a checkpoint.

A checkpoint is one safetensors file: the tensors, and in its header a JSON text that says what they
belong to. One file cannot come apart, and a safetensors file cannot hold code.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fap_lib import __version__
from fap_lib.clip.backbone import Backbone
from fap_lib.core.config import FeatureSettings, ModelSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic
from fap_lib.model import FAPrompt

FORMAT = 1
"""Version of the file's layout; a file of another version is refused, not guessed at."""


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
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary, metadata={"faprompt": json.dumps(header)})


def read_header(path: Path) -> dict[str, Any]:
    """What a checkpoint says about itself, without its tensors.

    Raises:
        KitError: no such file, not a checkpoint, or one of another kit version.
    """
    if not path.is_file():
        raise KitError(
            f"there is no checkpoint at {path}; train prompts with notebook 4, or run `make demo`, "
            "which leaves some in runs/demo/training."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["faprompt"])
    except (SafetensorError, OSError) as error:
        raise KitError(f"{path} is not a checkpoint of the kit, or is damaged; train it again.") from error
    except (KeyError, ValueError) as error:
        raise KitError(f"{path} is a safetensors file, but not a checkpoint of the kit.") from error
    if header.get("format") != FORMAT:
        raise KitError(
            f"the checkpoint {path} has format {header.get('format')} (kit {header.get('kit', 'unknown')}), "
            f"this kit {__version__} reads format {FORMAT}; use that kit version, or train again."
        )
    return header


def load_prompts(path: Path, backbone: Backbone) -> Checkpoint:
    """Load a checkpoint for the backbone it was trained on.

    Raises:
        KitError: not a checkpoint, another backbone, or tensors of another shape.
    """
    header = read_header(path)
    wanted = header["backbone"]
    if wanted["weights"] != backbone.weights_sha256:
        raise KitError(
            f"the checkpoint {path} was trained on the backbone {wanted['name']} with weights "
            f"{wanted['weights'][:12]}, but loaded is {backbone.name} with weights "
            f"{backbone.weights_sha256[:12]}; load the backbone it was trained on."
        )
    settings = ModelSettings.parse(header["model"])
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    with safe_open(path, framework="pt") as file:
        fill(model, {name: file.get_tensor(name) for name in file.keys()}, path)  # noqa: SIM118
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
