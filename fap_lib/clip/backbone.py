"""Loading a frozen CLIP: any plain ViT of open_clip, from its download, a local file, or a seed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fap_lib.clip import mini
from fap_lib.clip.conventions import DEFAULT, Conventions
from fap_lib.clip.image_tower import ImageTower
from fap_lib.clip.plain import CLIP, causal_mask
from fap_lib.clip.state_file import read_state
from fap_lib.clip.text_tower import TextTower
from fap_lib.clip.tokenizer import VOCABULARY, Tokenizer
from fap_lib.core import arguments
from fap_lib.core.config import Precision
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.core.tensors import write_tensors

RANDOM = "random"
"""The name that, in place of a weights file, draws the backbone's weights from a fixed seed."""

TINY = "tiny-random"
"""A CLIP of toy size with random weights: it exercises every path of the kit and knows nothing."""

_TINY_CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 42, "layers": 4, "width": 128, "head_width": 64, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
    "quick_gelu": True,
}


@dataclass
class Backbone:
    """A frozen CLIP in evaluation mode, with what is needed to feed it.

    The text tower stays in float32 (its work is small); `to` moves the image tower to a device and a
    precision.
    """

    name: str
    clip: CLIP
    tokenizer: Tokenizer
    trained: bool
    """False for weights drawn from a seed: no result made with them means anything."""
    conventions: Conventions = DEFAULT

    def __post_init__(self) -> None:
        self.clip.eval().requires_grad_(False)
        self.visual = self.clip.visual
        self.patch_width = self.visual.output_dim

    @cached_property
    def text_tower(self) -> TextTower:
        return TextTower(self.clip, self.tokenizer)

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 over names and float32 values of all weights, and over conventions that are not open_clip's
        defaults: the same for every file format.

        Read it before `to` changes the precision; `load_backbone` does.
        """
        digest = hashlib.sha256(self.conventions.deviations().encode())
        for name, value in sorted(self.clip.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: str | torch.device, precision: Precision = "float32") -> "Backbone":
        """Move both towers to `device`, and the image tower to `precision`, in place."""
        self.clip.to(device)
        self.visual.to(getattr(torch, precision))
        return self

    @property
    def precision(self) -> str:
        """The precision that the image tower is in, named as in the settings."""
        return str(self.visual.conv1.weight.dtype).removeprefix("torch.")

    def image_tower(self, image_size: int, vv_blocks: int, class_norm: bool = False) -> ImageTower:
        return ImageTower(self.visual, image_size, vv_blocks, class_norm)

    def normalise(self, images: np.ndarray | Tensor) -> Tensor:
        """RGB images (B, H, W, 3) uint8 to the image tower's input (B, 3, H, W)."""
        weight = self.visual.conv1.weight
        pixels = torch.as_tensor(images).to(weight.device).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(self.conventions.mean, device=weight.device).view(3, 1, 1)
        std = torch.tensor(self.conventions.std, device=weight.device).view(3, 1, 1)
        return ((pixels - mean) / std).to(weight.dtype)


def device_name(wanted: str = "auto") -> str:
    """The device to run on: `cuda` where there is one, else `cpu`; or the wanted one.

    Raises:
        KitError: the wanted device does not exist here.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise KitError(f"unknown device {wanted!r}; known devices: auto, cpu, cuda.")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise KitError("the device cuda was asked for, but torch finds no GPU here; use cpu or auto.")
    return wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def load_backbone(name: str, weights: str | Path | None = None) -> Backbone:
    """Load a CLIP on the CPU in float32.

    Args:
        name: `mini` (ships with the kit), `tiny-random`, or an open_clip architecture such as
            `ViT-L-14-336-quickgelu`, of whose weights others published have their tag behind a colon:
            `ViT-L-14:laion2b_s32b_b82k`. Published weights bring their activation and their scale of pixels
            along, so that `ViT-L-14-336` is the same model as the first.
        weights: a file (`.safetensors`, a state dict, or OpenAI's own archive), `random`, or None for the
            published ones: a file in the kit's `models` folder, else open_clip's download.

    Raises:
        KitError: unknown name; weights that cannot be had, do not fit, or want to execute code.
    """
    if name == TINY:
        if weights not in (None, RANDOM):
            raise KitError(
                f"the backbone {TINY} draws its weights from a seed and reads none from {weights}."
            )
        clip = _seeded(lambda: CLIP(**_TINY_CONFIG))
        backbone = Backbone(name, clip, Tokenizer(), False, Conventions(quick_gelu=True))
    elif name in (mini.MINI, mini.SILENT):
        own = arguments.place(weights) if weights and weights != RANDOM else None
        clip = _seeded(mini.build if weights == RANDOM else lambda: mini.load_mini(name, own))
        backbone = Backbone(name, clip, Tokenizer(), weights != RANDOM)
    else:
        from fap_lib.clip import published  # open_clip, which is slow to import

        config = _config(name)
        state, conventions = None, Conventions.of_architecture(published.parse(name).architecture)
        if weights != RANDOM:
            path = published.published_weights(name) if weights is None else arguments.place(weights)
            # A file of one's own under a bare name may be anything; under a tag it is what the tag says.
            state, conventions = _read(name, path, weights is None or ":" in name)
        # Where a file has all values, no memory and no random draw is spent on what it replaces.
        with torch.device("cpu" if state is None else "meta"):
            clip = _seeded(lambda: CLIP(**config | {"quick_gelu": conventions.quick_gelu}))
        if state is not None:
            _fill(clip, state, f"the weights {path} do not fit {name}")
        tokenizer = Tokenizer(config["text_cfg"]["context_length"])
        backbone = Backbone(name, clip, tokenizer, state is not None, conventions)
    _ = backbone.weights_sha256
    return backbone


def widths(name: str) -> tuple[int, int]:
    """Widths of a backbone's text tower and of its joint space, without building it.

    Raises:
        KitError: see `load_backbone`.
    """
    own = {TINY: _TINY_CONFIG, mini.MINI: mini.CONFIG, mini.SILENT: mini.CONFIG}
    config: dict[str, Any] = own.get(name) or _config(name)
    return config["text_cfg"]["width"], config["embed_dim"]


def save_weights(backbone: Backbone, path: Path) -> None:
    """Write weights and conventions as a safetensors file, which loads faster and cannot hold code."""
    header = {"backbone": backbone.name, **backbone.conventions.metadata()}
    write_tensors(path, backbone.clip.state_dict(), header)


def _seeded(build: Callable[[], CLIP]) -> CLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def _config(name: str) -> dict[str, Any]:
    """open_clip's description of an architecture of two plain transformers.

    Raises:
        KitError: unknown name, or another architecture.
    """
    from fap_lib.clip import published  # open_clip, which is slow to import

    config = published.configuration(name, (TINY, mini.MINI, mini.SILENT))
    if (size := config["text_cfg"]["vocab_size"]) != VOCABULARY:
        raise KitError(f"the backbone {name} has {size} tokens, and CLIP's tokenizer {VOCABULARY}.")
    return config


def _read(name: str, path: Path, by_tag: bool) -> tuple[dict[str, Tensor], Conventions]:
    """Weights from a file, and what they were trained with.

    Args:
        by_tag: whether the file, unless it says something itself, holds the published weights of this name.
    """
    from fap_lib.clip import published

    architecture, tag = published.parse(name)
    if not path.is_file():
        raise KitError(f"there are no weights at {path}; check the path.")
    if path.suffix != ".safetensors" and sha256(path) in published.address(architecture):
        # OpenAI's archive is TorchScript; it is opened only because its content is known.
        conventions = Conventions.of_published(architecture, published.OPENAI)
        return torch.jit.load(path, map_location="cpu").state_dict(), conventions
    state = read_state(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise KitError(f"{path} does not hold a state dict of tensors.")
    known = Conventions.of_file(path)
    if known is None and by_tag:
        known = Conventions.of_published(architecture, tag)
    return {key.removeprefix("module."): value for key, value in state.items()}, (
        known or Conventions.of_architecture(architecture)
    )


def _fill(clip: CLIP, state: dict[str, Tensor], problem: str) -> None:
    wanted = clip.state_dict()
    for key, value in wanted.items():
        if key not in state:
            raise KitError(f"{problem}: {key} is missing.")
        if state[key].shape != value.shape:
            raise KitError(
                f"{problem}: {key} has the shape {tuple(state[key].shape)}, needed is {tuple(value.shape)}."
            )
    clip.load_state_dict({key: state[key].float().contiguous() for key in wanted}, assign=True)
    # The one tensor that no file holds.
    clip.register_buffer("attn_mask", causal_mask(len(clip.attn_mask)), persistent=False)
