"""The mini CLIP: the small CLIP that ships with the kit, and the prompts learned on it.

It was trained from scratch on images the kit generates (`data_prep/mini`); the model card is
`fap_lib/weights/README.md`.
"""

from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from fap_lib.errors import KitError
from fap_lib.files import atomic

MINI = "mini"
"""The mini CLIP's name as a backbone."""

WEIGHTS = Path(__file__).parent / "weights"

VOCABULARY = 49408
"""Tokens of CLIP's byte-pair encoding."""

CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 96,
        "patch_size": 8,
        "width": 128,
        "head_width": 64,
        "layers": 6,
        "pool_type": "avg",
    },
    "text_cfg": {"context_length": 77, "vocab_size": VOCABULARY, "width": 128, "heads": 2, "layers": 4},
}

TOKENS = "token_embedding.weight"
ROWS = "token_embedding.rows"


def build(vocabulary: int = VOCABULARY) -> open_clip.CLIP:
    """The mini CLIP's architecture, with weights as the current random state draws them."""
    return open_clip.CLIP(**CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": vocabulary}})


def prompts(mode: str) -> Path:
    """The prompts shipped with the kit, learned on `mini-a` in a mode (`paper` or `released`).

    Raises:
        KitError: unknown mode.
    """
    path = WEIGHTS / f"prompts-{mode}.safetensors"
    if not path.is_file():
        raise KitError(f"no prompts of mode {mode!r} ship with the kit; modes: paper, released.")
    return path


def save(clip: open_clip.CLIP, rows: list[int], path: Path, recipe: dict[str, str]) -> None:
    """Write the weights in float16 with only the token rows that were trained.

    Args:
        clip: an instance of `build(len(rows))`. rows: the token id of each of its embedding rows.
        recipe: what the model was trained with, kept in the file's header.
    """
    state = {name: value.detach().cpu().half().contiguous() for name, value in clip.state_dict().items()}
    state[ROWS] = torch.tensor(rows, dtype=torch.int32)
    with atomic(path) as temporary:
        save_file(state, temporary, metadata=recipe)


def fill(clip: open_clip.CLIP, path: Path) -> None:
    """Load the weights into `build()`; token rows that no caption used stay as the seed drew them."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise KitError(f"the mini CLIP's weights {path} cannot be read; reinstall the kit.") from error
    if ROWS not in state:
        raise KitError(f"{path} does not hold the mini CLIP; leave `weights` empty to use the kit's own.")
    rows = state.pop(ROWS).long()
    trained = state.pop(TOKENS).float()
    missing, unexpected = clip.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    if unexpected or [name for name in missing if name != TOKENS]:
        raise KitError(f"the weights {path} do not fit the mini CLIP; reinstall the kit.")
    with torch.no_grad():
        clip.token_embedding.weight[rows] = trained


def recipe(path: Path) -> dict[str, str]:
    """What a weights file says it was trained with."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
