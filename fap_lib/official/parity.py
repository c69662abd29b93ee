"""Equality with the official code: `python -m fap_lib.official.parity FILE.npz`.

The file holds what the official code computes for a model whose weights come from a recipe. The kit
rebuilds the model, runs it, and prints the relative error of every array; one over the tolerance
makes the exit status 1.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from fap_lib.clip.backbone import Backbone
from fap_lib.clip.image_tower import ImageFeatures
from fap_lib.clip.plain import CLIP
from fap_lib.clip.tokenizer import Tokenizer
from fap_lib.core.config import Mode, ModelSettings, Settings, TrainSettings
from fap_lib.core.errors import KitError, shown
from fap_lib.core.untrusted import arrays, door
from fap_lib.maps import pixel_maps
from fap_lib.model import FAPrompt
from fap_lib.official.checkpoint import OFFICIAL_NAMES, official_name
from fap_lib.training import losses, make_optimiser

MODES: dict[str, Mode] = {"official": "released", "paper": "paper"}
"""The file's name of each mode, and ours."""

GRADIENT_HEAD = 16


def draw(name: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Normal numbers that depend on `name` alone, float32."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return (random.standard_normal(int(np.prod(shape))) * scale).astype(np.float32).reshape(shape)


def build_backbone(config: dict[str, Any]) -> Backbone:
    """The CLIP of a parity file, weights drawn by the recipe."""
    clip = CLIP(
        embed_dim=768,
        vision_cfg=dict(
            image_size=config["pos_size"],
            layers=config["vlayers"],
            width=config["vwidth"],
            head_width=64,
            patch_size=14,
        ),
        text_cfg=dict(context_length=77, vocab_size=49408, width=768, heads=12, layers=config["tlayers"]),
        quick_gelu=True,
    )

    def fill(item: tuple[str, Tensor]) -> None:
        item[1].copy_(torch.from_numpy(_weight(item[0], tuple(item[1].shape))))

    # Most of a large model's time goes into drawing; NumPy draws outside the interpreter lock.
    with torch.no_grad(), ThreadPoolExecutor() as pool:
        list(pool.map(fill, clip.state_dict().items()))
    return Backbone("parity", clip, Tokenizer(), trained=False)


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "logit_scale":
        return np.asarray(np.log(1 / 0.07), dtype=np.float32)
    if "ln_" in name:
        return draw(name, shape, 0.1) + np.float32(name.endswith("weight"))
    if name.endswith("bias"):
        return draw(name, shape, 0.02)
    fixed = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.05,
        "visual.positional_embedding": 0.05,
        "visual.class_embedding": 0.05,
        "visual.conv1.weight": (3 * 14 * 14) ** -0.5,
    }
    if name in ("visual.proj", "text_projection"):
        return draw(name, shape, shape[0] ** -0.5)
    return draw(name, shape, fixed.get(name) or shape[1] ** -0.5)


def build_model(backbone: Backbone, config: dict[str, Any], mode: Mode) -> FAPrompt:
    """The prompt learner of a parity file, parameters drawn by the recipe."""
    settings = ModelSettings(mode=mode, deep_layers=config["deep_layers"])
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "prompts.deep":
                for layer, value in enumerate(parameter):
                    drawn = draw(f"prompt_learner.compound_prompts_text.{layer}", tuple(value.shape), 0.02)
                    value.copy_(torch.from_numpy(drawn).half().float())
            else:
                scale = 0.02 if name.startswith("prompts.") else 0.01
                if name.endswith("weight"):
                    scale = 0.3 * parameter.shape[1] ** -0.5
                drawn = draw(f"prompt_learner.{OFFICIAL_NAMES[name]}", tuple(parameter.shape), scale)
                parameter.copy_(torch.from_numpy(drawn))
    return model


def build_inputs(config: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (B, 3, H, W), labels (B,) and masks (B, H, W) of a parity file."""
    count, size = config["B"], config["size"]
    pixels = torch.from_numpy(draw("images", (count, 3, size, size), 1.0))
    label = (torch.arange(count) + 1) % 2
    mask = torch.zeros(count, size, size)
    q = size // 7
    for index in range(0, count, 2):
        mask[index, q * (1 + index) : q * (3 + index), q : 4 * q] = 1
    return pixels, label, mask


def tolerance(key: str) -> float:
    """Relative error that a faithful float32 implementation stays below."""
    if key.startswith(("after3", "train_total")):
        return 1e-3
    if key.startswith("grad"):
        return 1e-3 if "compound_prompts_text" in key else 1e-4
    return 1e-5


def computed(
    config: dict[str, Any], backbone: Backbone, raw: ImageFeatures, mode: Mode
) -> Iterator[tuple[str, Any]]:
    """Everything the kit computes for a parity file in one mode, under the file's names."""
    _, label, mask = build_inputs(config)
    yield "image_features_raw", raw.image
    yield "patch_features_raw", raw.tokens
    yield "patch_features_raw_every97", raw.tokens[:, ::97]

    image, patches = F.normalize(raw.image, dim=-1), F.normalize(raw.tokens[:, 1:], dim=-1)
    model = build_model(backbone, config, mode)
    with torch.no_grad():
        static = model.static_text()
        prediction = model(image, patches, static)
        # The kit keeps the normal feature at unit length; the official file has it before that.
        normal = model.text_tower.suffix(static.prefix, model.prompts.normal_suffix())
    yield "text_normal", normal
    yield "text_abnormal", static.abnormal
    yield "top10_index", prediction.static[..., 1].topk(10, dim=1).indices
    yield "prior", prediction.prior
    yield "text_adapted", prediction.text
    for name, probability in (("map_static", prediction.static), ("map_adapted", prediction.adapted)):
        yield name, pixel_maps(probability.transpose(1, 2), config["size"])
    yield "image_logits", prediction.image_logits
    yield "image_prob", prediction.image_probability
    yield "image_score", prediction.score
    for suffix, sigma in (("", 0.0), ("_sigma10", 10.0)):
        maps = pixel_maps(prediction.patch_map, config["size"], sigma)
        yield f"anomaly_map{suffix}", maps
        yield f"anomaly_map{suffix}_every37", maps[:, ::37, ::37]

    full = bool(config.get("full"))  # large files hold no gradients and no training
    settings = TrainSettings()
    optimiser = make_optimiser(model, settings)
    for step in range(3 if full else 1):
        with torch.set_grad_enabled(full):
            static = model.static_text()
            terms = losses(model(image, patches, static), static, label, mask, settings)
        yield f"train_total/{step}", terms["total"]
        if step == 0:
            for name, value in terms.items():
                yield f"loss/{name}", value
            yield "loss_orthogonal", terms["orthogonal"]
            yield "loss_prior", terms["prior"]
        if not full:
            return
        optimiser.zero_grad()
        terms["total"].backward()
        if step == 0:
            for name, gradient in _official_arrays(model, "grad"):
                yield f"grad_norm/{name}", gradient.norm()
                yield f"grad_head/{name}", gradient.flatten()[:GRADIENT_HEAD]
        optimiser.step()
    for name, value in _official_arrays(model, "data"):
        yield f"after3_head/{name}", value.flatten()[:GRADIENT_HEAD]


def _official_arrays(model: FAPrompt, attribute: str) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        value = getattr(parameter, attribute)
        if name == "prompts.deep":
            for layer, part in enumerate(value):
                yield official_name(name, layer), part
        else:
            yield official_name(name), value


def relative_error(ours: Any, theirs: np.ndarray) -> float:
    """Norm of the difference over the norm of the reference; indices must agree exactly."""
    found = np.asarray(ours.detach() if isinstance(ours, Tensor) else ours)
    if found.shape != theirs.shape:
        return float("inf")
    if theirs.dtype.kind in "iu":
        return float(np.mean(found != theirs))
    reference = np.ravel(theirs).astype(np.float64)
    norm = float(np.linalg.norm(np.ravel(found) - reference))
    return norm / max(float(np.linalg.norm(reference)), 1e-30)


class Config(Settings):
    """The entry `config` of a parity file: sizes of the model and its inputs. `dpam` counts the blocks with
    value-value attention and one more."""

    title: ClassVar[str] = "parity"
    pos_size: int = Field(ge=14, le=1022, multiple_of=14)
    size: int = Field(ge=14, le=1022, multiple_of=14)
    vlayers: int = Field(ge=1, le=48)
    vwidth: int = Field(ge=64, le=2048, multiple_of=64)
    tlayers: int = Field(ge=1, le=48)
    deep_layers: int = Field(ge=1, le=48)
    dpam: int = Field(ge=1, le=49)
    B: int = Field(ge=1, le=64)
    full: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.deep_layers > self.tlayers or self.dpam > self.vlayers + 1:
            raise ValueError("it names more layers than its towers have")
        if 12 * self.vwidth**2 * self.vlayers > 1e9 or self.B * (self.size // 14) ** 2 > 1e5:
            raise ValueError("its model or its images are larger than any CLIP's")
        return self


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the sizes of a parity file.

    Raises:
        KitError: the file is missing or not in the format.
    """
    if not path.is_file():
        raise KitError(f"there is no parity file at {path}.")
    reference = arrays(path)
    with door(path, "a parity file: an .npz archive with a JSON entry 'config'"):
        config = Config.parse(json.loads(str(reference.pop("config")))).model_dump()
    for name, values in reference.items():
        if values.dtype.kind not in "fiu":
            raise KitError(f"{path} is not a parity file: {shown(name)} holds no numbers.")
    return reference, config


def compare(path: Path) -> list[tuple[str, float, float]]:
    """Compare the kit with a parity file: (array, relative error, tolerance) of each shared array.

    Raises:
        KitError: the file is missing or not in the format.
    """
    reference, config = read(path)
    backbone = build_backbone(config)
    raw = backbone.image_tower(config["size"], config["dpam"] - 1)(build_inputs(config)[0])
    raw = ImageFeatures(
        raw.image.clone(), raw.tokens.clone()
    )  # training needs tensors outside inference mode
    rows, missing = [], set(reference)
    for theirs, mode in MODES.items():
        if not any(key.startswith(f"{theirs}/") for key in reference):
            continue
        for key, value in computed(config, backbone, raw, mode):
            full = f"{theirs}/{key}"
            if full in reference:
                rows.append((full, relative_error(value, reference[full]), tolerance(key)))
                missing.discard(full)
    if missing:
        raise KitError(f"{path} holds an array the kit does not compute: {sorted(missing)[0]}.")
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; 0 if every array is within its tolerance."""
    parser = argparse.ArgumentParser(prog="fap parity", description="Compare the kit with the official code.")
    parser.add_argument("file", type=Path, help="an .npz file of official outputs")
    try:
        rows = compare(parser.parse_args(arguments).file)
    except KitError as error:
        print(error, file=sys.stderr)
        return 2
    width = max(len(key) for key, _, _ in rows)
    for key, distance, limit in rows:
        verdict = "ok" if distance <= limit else "OVER"
        print(f"{key:<{width}}  {distance:9.2e}  limit {limit:.0e}  {verdict}")
    over = sum(not distance <= limit for _, distance, limit in rows)
    print(f"{len(rows)} arrays compared, {over} over the tolerance")
    return 1 if over or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
