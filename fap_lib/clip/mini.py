"""The mini CLIP: the small CLIP that ships with the kit, and the prompts learned on it.

It was trained from scratch on images the kit generates (`data_prep/mini`); the model card is
`fap_lib/clip/weights/README.md`.
"""

from pathlib import Path
from typing import Any

import torch

from fap_lib.clip.plain import CLIP
from fap_lib.clip.tokenizer import VOCABULARY
from fap_lib.core.errors import KitError
from fap_lib.core.tensors import read_tensors, write_tensors

MINI = "mini"
"""The mini CLIP's name as a backbone."""

SILENT = "mini-silent"
"""Its twin: the same image tower, and a text tower from captions whose state words say nothing."""

WEIGHTS = Path(__file__).parent / "weights"

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


def build(vocabulary: int = VOCABULARY) -> CLIP:
    """The mini CLIP's architecture, with weights as the current random state draws them."""
    return CLIP(**CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": vocabulary}})


def prompts(mode: str) -> Path:
    """The prompts shipped with the kit, learned on `mini-a` in a mode (`paper` or `released`).

    Raises:
        KitError: unknown mode.
    """
    path = WEIGHTS / f"prompts-{mode}.safetensors"
    if not path.is_file():
        raise KitError(f"no prompts of mode {mode!r} ship with the kit; modes: paper, released.")
    return path


def load_mini(name: str, weights: Path | None = None) -> CLIP:
    """The mini CLIP or its twin, on the CPU in float32. Call it under a fixed seed.

    Token rows that no caption used are not in the files; they stay as the seed draws them.

    Args:
        weights: another file of the kind `save` writes, instead of the kit's own.

    Raises:
        KitError: a file is damaged or holds something else.
    """
    clip = build()
    files = [weights or WEIGHTS / "mini.safetensors"]
    if name == SILENT:
        files.append(WEIGHTS / f"{SILENT}.safetensors")  # replaces the text tower
    state: dict[str, torch.Tensor] = {}
    for path in files:
        state |= read_tensors(path, "reinstall the kit, or leave `weights` empty to use the kit's own")[0]
    if ROWS not in state:
        raise KitError(f"{files[0]} does not hold the mini CLIP; leave `weights` empty to use the kit's own.")
    rows, trained = state.pop(ROWS).long(), state.pop(TOKENS).float()
    table = clip.token_embedding.weight.detach().clone()
    table[rows] = trained
    try:
        clip.load_state_dict({**{key: value.float() for key, value in state.items()}, TOKENS: table})
    except RuntimeError as error:
        raise KitError(f"the weights {files[0]} do not fit the mini CLIP; reinstall the kit.") from error
    return clip


def save(clip: CLIP, rows: list[int], path: Path, recipe: dict[str, str], text_only: bool) -> None:
    """Write the weights in float16 with only the token rows that were trained.

    Args:
        clip: an instance of `build(len(rows))`. rows: the token id of each of its embedding rows.
        recipe: what the model was trained with, kept in the file's header.
        text_only: leave the image tower out, because it is another file's.
    """
    state = {
        name: value.detach().cpu().half().contiguous()
        for name, value in clip.state_dict().items()
        if not (text_only and name.startswith("visual."))
    }
    state[ROWS] = torch.tensor(rows, dtype=torch.int32)
    write_tensors(path, state, recipe)


def recipe(path: Path) -> dict[str, str]:
    """What a weights file says it was trained with."""
    return read_tensors(path, "reinstall the kit")[1]
