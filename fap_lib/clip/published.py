"""CLIPs that open_clip knows by name, and where their weights are.

A bare name, `ViT-L-14`, is for OpenAI's weights; those that others published have their tag behind a colon,
`ViT-L-14:laion2b_s32b_b82k`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from fap_lib.core import paths
from fap_lib.core.errors import KitError, nearest, shown

OPENAI = "openai"
"""The tag of a name without one."""

# What open_clip's description of two plain transformers may say; anything else is another architecture.
_PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
_PLAIN_VISION = {"image_size", "patch_size", "width", "head_width", "layers", "mlp_ratio", "ls_init_value"}
_PLAIN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}


class Name(NamedTuple):
    """A CLIP's name in its parts."""

    architecture: str
    tag: str

    @property
    def file(self) -> str:
        """What its weights are called as a safetensors file in the models folder."""
        return f"{self.architecture}{'' if self.tag == OPENAI else f'--{self.tag}'}.safetensors"


def parse(name: str) -> Name:
    """The parts of a name."""
    architecture, _, tag = name.partition(":")
    return Name(architecture, tag or OPENAI)


def configuration(name: str, others: tuple[str, ...] = ()) -> dict[str, Any]:
    """open_clip's description of a CLIP of two plain transformers.

    Args:
        others: names that are known beside open_clip's.

    Raises:
        KitError: unknown name; or another architecture, with what the kit lacks for it.
    """
    architecture, _ = parse(name)
    known = open_clip.list_models()
    if architecture not in known:
        near = nearest(architecture, [*known, *others])
        raise KitError(f"unknown backbone {architecture!r}; the nearest known one is {near!r}.")
    config: dict[str, Any] = open_clip.get_model_config(architecture)
    if missing := lacking(config):
        raise KitError(
            f"the backbone {architecture} is not a CLIP with two plain transformers: {'; '.join(missing)}. "
            "Use a ViT of CLIP, such as ViT-L-14-336."
        )
    return config


def lacking(config: dict[str, Any]) -> list[str]:
    """What stands between one of open_clip's architectures and the kit; empty for two plain transformers."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    found = []
    if trunk := vision.get("timm_model_name"):
        found.append(f"its image tower is timm's {trunk}, of which the kit cannot read patch features")
    if isinstance(vision.get("layers"), list):
        found.append("its image tower is convolutional")
    if vision.get("timm_pool") == "map" or vision.get("attentional_pool"):
        found.append("its image feature is pooled by attention and not read at a class token")
    if other := text.get("hf_model_name"):
        found.append(f"its text tower is Hugging Face's {other}")
    if text.get("no_causal_mask"):
        found.append("its text tower has no causal mask, without which prompts cannot share a prefix")
    if (pool := text.get("pool_type", "argmax")) != "argmax" or text.get("embed_cls"):
        where = "a class token" if text.get("embed_cls") else f"the {pool} token"
        found.append(f"its text feature is read at {where} and not at the end token")
    if other := text.get("hf_tokenizer_name"):
        found.append(f"its tokenizer is {other} and not CLIP's")
    if "multimodal_cfg" in config:
        found.append("it has a decoder for captions")
    unusual = {*(config.keys() - _PLAIN), *(vision.keys() - _PLAIN_VISION), *(text.keys() - _PLAIN_TEXT)}
    if unusual and not found:
        found.append(f"the kit does not know its settings {', '.join(sorted(unusual))}")
    return found


def noted(name: str) -> dict[str, Any]:
    """What open_clip notes of published weights: where they are, how their images were scaled.

    Raises:
        KitError: nobody published weights of this name.
    """
    architecture, tag = parse(name)
    if found := get_pretrained_cfg(architecture, tag):
        return found
    tags = list_pretrained_tags_by_model(architecture)
    if tag == OPENAI:
        others = f", or one of {', '.join(f'{architecture}:{each}' for each in tags)}" if tags else ""
        raise KitError(
            f"OpenAI published no weights for {architecture}; give a file as `weights`, 'random'{others}."
        )
    known = ", ".join(tags) or "none at all"
    raise KitError(
        f"open_clip knows no weights {shown(tag)} of {architecture}; known are {known}. For a file of your "
        "own leave the tag out."
    )


def address(name: str) -> str:
    """Where published weights are; empty where nobody says it."""
    return get_pretrained_cfg(*parse(name)).get("url", "")


def weights_at_hand(name: str) -> Path | None:
    """A CLIP's weights in the models folder, or where open_clip keeps its downloads of them."""
    own = parse(name)
    file_name = address(name).rsplit("/", 1)[-1] or own.file
    folder, downloads = paths.models(), Path("~/.cache/clip").expanduser()
    candidates = (folder / own.file, folder / file_name, downloads / file_name)
    return next((path for path in candidates if path.is_file()), None)


def published_weights(name: str) -> Path:
    """A CLIP's weights: at hand, else by open_clip's download.

    Raises:
        KitError: nobody published them, or they cannot be downloaded; says what to put where.
    """
    found = noted(name)
    if here := weights_at_hand(name):
        return here
    try:
        return Path(open_clip.download_pretrained(found))
    except Exception as error:  # whatever the download library raises, the advice is the same
        raise KitError(
            f"the weights of {name} are not here and cannot be downloaded (no network?); "
            f"{_by_hand(name, found)}."
        ) from error


def _by_hand(name: str, found: dict[str, Any]) -> str:
    """How to bring published weights from another machine."""
    own, folder = parse(name), paths.models()
    if found.get("url"):
        *_, digest, file_name = found["url"].split("/")
        check = f" (SHA-256 {digest})" if len(digest) == 64 else ""
        what, place = f"{file_name}{check} from {found['url']}", folder / file_name
    else:
        hub = found["hf_hub"].strip("/")
        what, place = f"open_clip_model.safetensors from https://huggingface.co/{hub}", folder / own.file
    return f"fetch {what} on another machine and put it at {place}"
