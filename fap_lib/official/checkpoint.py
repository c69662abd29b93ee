"""The authors' checkpoints: `.pth` files that hold the state dict of their prompt learner."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fap_lib.checkpoints import Checkpoint, fill, load_prompts
from fap_lib.clip.backbone import Backbone
from fap_lib.clip.state_file import is_safetensors, read_state
from fap_lib.core.config import FeatureSettings, ModelSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.core.untrusted import check_tensors, door
from fap_lib.model import FAPrompt

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

TRAINED_ON = {"train_on_mvtecad.pth": "mvtec", "train_on_visa.pth": "visa"}
"""What each of them was learned on."""

MOST = 1 << 30
"""Bytes of an official checkpoint's tensors; the published ones take a fiftieth."""

_KIND = "an official checkpoint of FAPrompt"

# Saved by the official code and never read by it (ledger: unused-projections), or rebuilt from CLIP.
_OFFICIAL_UNUSED = ("compound_prompt_projections.", "token_prefix_", "token_suffix_", "tokenized_prompts_")


def official_name(name: str, layer: int = 0) -> str:
    """The official state dict's name of one of our parameters."""
    return OFFICIAL_NAMES[name].format(layer=layer)


def open_prompts(path: Path, backbone: Backbone, features: FeatureSettings | None = None) -> Checkpoint:
    """Load prompts from the kit's file or from the authors', whichever it is.

    Args:
        features: how features are made for prompts whose file does not say it, which is the authors'; by
            default as the authors make them.

    Returns:
        The checkpoint. The authors' prompts are in `released` mode, the one their code trains, and `about`
        holds `dataset` (`mvtec` or `visa` for the published files, else `unknown`), `file`, `sha256`, and
        `published`: the name of the published file with this content, or None.

    Raises:
        KitError: see `fap_lib.checkpoints.load_prompts` and `load_official`.
    """
    path = Path(path)
    if not path.is_file() or is_safetensors(path):
        return load_prompts(path, backbone)
    model = load_official(path, backbone)
    digest = sha256(path)
    published = next((name for name, known in OFFICIAL_SHA256.items() if known == digest), None)
    about = {
        "dataset": TRAINED_ON[published] if published else "unknown",
        "file": path.name,
        "sha256": digest,
        "published": published,
    }
    return Checkpoint(model, features or FeatureSettings(backbone=backbone.name), about)


def load_official(path: Path, backbone: Backbone) -> FAPrompt:
    """Load the authors' `.pth` as a model in `released` mode.

    Raises:
        KitError: see `read_official`; or prompts of another CLIP.
    """
    own = read_official(Path(path))
    other_clip(own, backbone.name, backbone.text_tower.width, backbone.patch_width, path)
    n_prompts, abnormal_tokens, _ = own["prompts.abnormal"].shape
    settings = ModelSettings.parse(
        dict(
            mode="released",
            n_prompts=n_prompts,
            n_patches=own["prior_network.linear1.weight"].shape[1] // backbone.patch_width,
            normal_tokens=len(own["prompts.normal"]),
            abnormal_tokens=abnormal_tokens,
            deep_layers=len(own["prompts.deep"]),
            deep_tokens=own["prompts.deep"].shape[1],
        )
    )
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    fill(model, own, path)
    return model


def other_clip(own: dict[str, Tensor], name: str, text: int, joint: int, path: Path) -> None:
    """Refuse prompts that were learned on another CLIP.

    Args:
        own: see `read_official`. name: the CLIP's. text, joint: widths of its text tower and its joint space.

    Raises:
        KitError: the widths do not fit.
    """
    prompts, read = own["prompts.abnormal"].shape[-1], own["prior_network.linear1.weight"].shape[1]
    if prompts == text and read % joint == 0:
        return
    problem = (
        f"its prompts are {prompts} wide, and this text tower {text}"
        if prompts != text
        else f"its prior network reads {read} numbers, which are no whole patches of {joint}"
    )
    raise KitError(
        f"{path} was learned on another CLIP than {name}: {problem}; the authors' own files belong to "
        f"{FeatureSettings().backbone} (profile paper)."
    )


def read_official(path: Path) -> dict[str, Tensor]:
    """The tensors of an authors' `.pth` ({"prompt_learner": state dict}) under our names and in our shapes.

    The deep tokens are rounded to float16 here, once, because the official text tower rounds them at every
    pass (ledger: deep-token-rounding).

    Raises:
        KitError: missing file, wrong SHA-256 of a published file, code in the file, other contents.
    """
    if not path.is_file():
        raise KitError(f"there is no official checkpoint at {path}.")
    known = OFFICIAL_SHA256.get(path.name)
    if known and (found := sha256(path)) != known:
        raise KitError(f"{path} is not the published {path.name}: SHA-256 {found}, expected {known}.")
    content = read_state(path)
    with door(path, _KIND):
        return _checked(content, path)


def _checked(content: Any, path: Path) -> dict[str, Tensor]:
    state = content.get("prompt_learner") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not {"ctx_pos", "ctx_neg"} <= set(state):
        raise KitError(f"{path} is not an official checkpoint: it must hold 'prompt_learner' with 'ctx_pos'.")
    check_tensors(state, path, _KIND, MOST)
    deep = sorted((key for key in state if key.startswith("compound_prompts_text.")), key=_trailing_number)
    fixed = {ours: theirs for ours, theirs in OFFICIAL_NAMES.items() if ours != "prompts.deep"}
    if problem := _problem(state, list(fixed.values()), deep):
        raise KitError(f"{path} is not an official checkpoint of FAPrompt: {problem}.")
    own = {ours: state[theirs].float() for ours, theirs in fixed.items()}
    own["prompts.normal"] = own["prompts.normal"].flatten(0, -2)
    own["prompts.abnormal"] = own["prompts.abnormal"][0]
    own["prompts.deep"] = torch.stack([state[key] for key in deep]).half().float()
    return own


def _problem(state: dict[str, Tensor], fixed: list[str], deep: list[str]) -> str | None:
    """What keeps an official state dict from being read: a name too few or too many, or a shape."""
    for name in fixed:
        if name not in state:
            return f"{name} is missing"
    for name in state:
        if name not in (*fixed, *deep) and not name.startswith(_OFFICIAL_UNUSED):
            return f"{name} is unknown"
    if not deep:
        return "no deep tokens"
    if [_trailing_number(name) for name in deep] != list(range(len(deep))):
        return "a layer of deep tokens is missing"
    for name in (*fixed, *deep):
        dimensions = 4 if name.startswith("ctx_") else 1 if name.endswith("bias") else 2
        alike = name not in deep or state[name].shape == state[deep[0]].shape
        if state[name].dim() != dimensions or not state[name].numel() or not alike:
            return f"{name} has another shape"
    return None


def _trailing_number(key: str) -> int:
    return int(key.rsplit(".", 1)[1])
