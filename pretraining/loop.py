"""Train the mini CLIP: images and captions of the mini world, contrastively, from scratch.

    fap mini pretrain FOLDER [--recipe mini-silent] [--steps N] [--device cuda]

Three losses on one forward pass: whole images with their captions (as CLIP); regions with theirs, where a
region is the mean of its patch tokens (RegionCLIP, Zhong et al. 2022); and each region's own caption against
captions of other looks on the same category (NegCLIP, Yuksekgonul et al. 2023). Masks enter only through
the choice of a region's patches. An interrupted run goes on where it was when it is started again.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import AdamW, Optimizer

from data_prep.mini.generator import CATEGORIES
from fap_lib.clip import mini
from fap_lib.clip.plain import CLIP
from fap_lib.core.errors import KitError
from fap_lib.core.files import write_text
from fap_lib.core.progress import bar
from fap_lib.core.tensors import put_back, read_tensors, state_of, write_tensors
from pretraining.batches import Vocabulary, make_batch
from pretraining.objective import losses
from pretraining.pool import draw_pool
from pretraining.recipes import Recipe


def train(folder: Path, recipe: Recipe, device: str = "cpu", save_every: int = 250) -> Path:
    """Train to the end of the recipe; returns the exported `folder/weights.safetensors`.

    `folder/log.jsonl` has a line every ten steps.

    Raises:
        KitError: `folder` holds a run of another recipe, or a damaged state.
    """
    _claim(folder, recipe)
    pool = draw_pool(folder / "pool", recipe)
    by_category = [
        rows for name in range(len(CATEGORIES)) if len(rows := np.flatnonzero(pool.labels[:, 0] == name))
    ]
    torch.manual_seed(recipe.seed)
    vocabulary = Vocabulary()
    clip = _new_clip(vocabulary, recipe).to(device)
    optimizer = _optimizer(clip, recipe)
    state = folder / "state.safetensors"
    start = _restore(state, clip, optimizer)
    with _log(folder / "log.jsonl", start) as log:
        for step in bar(range(start, recipe.steps), "pre-training", recipe.steps, start):
            rate = _rate(step, recipe)
            for group in optimizer.param_groups:
                group["lr"] = rate
            total, parts = losses(clip, make_batch(pool, by_category, recipe, step), vocabulary)
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_([value for value in clip.parameters() if value.requires_grad], 1.0)
            optimizer.step()
            if step % 10 == 9:
                log(
                    {
                        "step": step,
                        "rate": round(rate, 7),
                        **{key: round(part, 4) for key, part in parts.items()},
                    }
                )
            if step % save_every == save_every - 1 or step == recipe.steps - 1:
                _save(state, clip, optimizer, step + 1)
    weights = folder / "weights.safetensors"
    header = {key: str(value) for key, value in asdict(recipe).items()}
    mini.save(clip, vocabulary.rows, weights, header, recipe.text_only)
    return weights


def _claim(folder: Path, recipe: Recipe) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    note = json.dumps(asdict(recipe), sort_keys=True)
    written = folder / "recipe.json"
    if written.exists() and written.read_text(encoding="utf-8") != note:
        raise KitError(f"{folder} holds a run of another recipe; give an empty folder.")
    write_text(written, note)


def _new_clip(vocabulary: Vocabulary, recipe: Recipe) -> CLIP:
    clip = mini.build(len(vocabulary.rows))
    if recipe.text_only:
        clip.visual.load_state_dict(mini.load_mini(mini.MINI).visual.state_dict())
        clip.visual.requires_grad_(False)
    return clip


def _optimizer(clip: CLIP, recipe: Recipe) -> Optimizer:
    """AdamW; biases, norms and the temperature are not decayed."""
    learned = [value for value in clip.parameters() if value.requires_grad]
    decayed = [value for value in learned if value.ndim >= 2]
    others = [value for value in learned if value.ndim < 2]
    return AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )


def _rate(step: int, recipe: Recipe) -> float:
    """The learning rate of a step: a linear rise, then half a cosine down to zero."""
    rise = min(1, (step + 1) / recipe.warm_up)
    return recipe.learning_rate * rise * (1 + math.cos(math.pi * step / recipe.steps)) / 2


def _restore(state: Path, clip: CLIP, optimizer: Optimizer) -> int:
    """The step to go on with: 0 without a saved state."""
    if not state.exists():
        return 0
    remedy = "this training cannot be continued: give another folder, or delete the file to start anew"
    tensors, header = read_tensors(state, remedy)
    put_back(tensors, clip, optimizer)
    return int(header["step"])


def _save(state: Path, clip: CLIP, optimizer: Optimizer, step: int) -> None:
    write_tensors(state, state_of(clip, optimizer), {"step": str(step)})


@contextmanager
def _log(path: Path, start: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Appends lines to the log, of which those from step `start` on are dropped; adds the seconds."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    began = time.monotonic()
    with open(path, "w", buffering=1, encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines if json.loads(line)["step"] < start)

        def write(entry: dict[str, Any]) -> None:
            file.write(json.dumps({**entry, "seconds": round(time.monotonic() - began, 1)}) + "\n")

        yield write
