"""Prompts on disk: the kit's own checkpoints, and the authors' `.pth` files.

A checkpoint is one safetensors file: the tensors, and in its header a JSON text that says what they
belong to. One file cannot come apart, and a safetensors file cannot hold code.
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fap_lib import __version__
from fap_lib.clip import Backbone
from fap_lib.config import FeatureSettings, ModelSettings
from fap_lib.errors import KitError
from fap_lib.files import atomic, sha256
from fap_lib.model import FAPrompt

FORMAT = 1
"""Version of the file's layout; a file of another version is refused, not guessed at."""

OFFICIAL_NAMES = {
    "prompts.normal": "ctx_pos",
    "prompts.abnormal": "ctx_neg",
    "prompts.deep": "compound_prompts_text.{layer}",
    "prior_network.linear1.weight": "patch_meta_net.linear1.weight",
    "prior_network.linear1.bias": "patch_meta_net.linear1.bias",
    "prior_network.linear2.weight": "patch_meta_net.linear2.weight",
    "prior_network.linear2.bias": "patch_meta_net.linear2.bias",
}
"""Our parameter names and the official state dict's."""

OFFICIAL_SHA256 = {
    "train_on_mvtecad.pth": "13497ace23f87d3d4bff7e4695b43d4257c7af646da04e8fb8996428c9a4e84f",
    "train_on_visa.pth": "82ce5d51c97cedc08f6b27f75094967a3cd7f0b67c45bc0f8daf328638562e9f",
}
"""The authors' published files."""

# Saved by the official code and never read by it (ledger: unused-projections), or rebuilt from CLIP.
_OFFICIAL_UNUSED = ("compound_prompt_projections.", "token_prefix_", "token_suffix_", "tokenized_prompts_")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded prompt learner and what its file says about it."""

    model: FAPrompt
    features: FeatureSettings
    about: dict[str, Any]


def official_name(name: str, layer: int = 0) -> str:
    """The official state dict's name of one of our parameters."""
    return OFFICIAL_NAMES[name].format(layer=layer)


def save(
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


def load(path: Path, backbone: Backbone) -> Checkpoint:
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


def load_official(path: Path, backbone: Backbone) -> FAPrompt:
    """Load the authors' `.pth` ({"prompt_learner": state dict}) as a model in `released` mode.

    Sizes are read from the tensors. The deep tokens are rounded to float16 here, once, because the
    official text tower rounds them at every pass (ledger: deep-token-rounding).

    Raises:
        KitError: missing file, wrong SHA-256 of a published file, code in the file, other contents.
    """
    path = Path(path)
    if not path.is_file():
        raise KitError(f"there is no official checkpoint at {path}.")
    known = OFFICIAL_SHA256.get(path.name)
    if known and (found := sha256(path)) != known:
        raise KitError(f"{path} is not the published {path.name}: SHA-256 {found}, expected {known}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise KitError(
            f"{path} was not opened: it wants to execute code instead of only holding weights."
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise KitError(f"{path} cannot be read; the file may be damaged, fetch it again.") from error

    state = content.get("prompt_learner") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not {"ctx_pos", "ctx_neg"} <= set(state):
        raise KitError(f"{path} is not an official checkpoint: it must hold 'prompt_learner' with 'ctx_pos'.")
    deep = sorted((key for key in state if key.startswith("compound_prompts_text.")), key=_trailing_number)
    fixed = {ours: theirs for ours, theirs in OFFICIAL_NAMES.items() if ours != "prompts.deep"}
    missing = [theirs for theirs in fixed.values() if theirs not in state]
    unknown = [
        key for key in state if key not in (*fixed.values(), *deep) and not key.startswith(_OFFICIAL_UNUSED)
    ]
    if missing or unknown or not deep:
        problem = (
            f"{missing[0]} is missing"
            if missing
            else f"{unknown[0]} is unknown"
            if unknown
            else "no deep tokens"
        )
        raise KitError(f"{path} is not an official checkpoint of FAPrompt: {problem}.")

    own = {ours: state[theirs].float() for ours, theirs in fixed.items()}
    own["prompts.normal"] = own["prompts.normal"].flatten(0, -2)
    own["prompts.abnormal"] = own["prompts.abnormal"][0]
    own["prompts.deep"] = torch.stack([state[key] for key in deep]).half().float()
    n_prompts, abnormal_tokens, _ = own["prompts.abnormal"].shape
    settings = ModelSettings.parse(
        dict(
            mode="released",
            n_prompts=n_prompts,
            n_patches=own["prior_network.linear1.weight"].shape[1] // backbone.patch_width,
            normal_tokens=len(own["prompts.normal"]),
            abnormal_tokens=abnormal_tokens,
            deep_layers=len(deep),
            deep_tokens=own["prompts.deep"].shape[1],
        )
    )
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    fill(model, own, path)
    return model


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


def _trailing_number(key: str) -> int:
    return int(key.rsplit(".", 1)[1])
