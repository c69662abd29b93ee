"""Training the prompts: FAPrompt's forward pass with its losses at the end, from cached features.

Everything random comes from (seed, epoch), and the whole state is written every few steps, so a
killed run continues as if nothing had happened, bit for bit on a CPU.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fap_lib import checkpoints
from fap_lib.cap import orthogonality_loss
from fap_lib.clip.backbone import Backbone
from fap_lib.core.config import FeatureSettings, TrainSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors
from fap_lib.core.paths import PROMPTS
from fap_lib.core.progress import bar
from fap_lib.core.tensors import put_back, read_tensors, state_of, write_tensors
from fap_lib.dap import prior_loss
from fap_lib.losses import image_cross_entropy, image_focal_loss, map_loss
from fap_lib.maps import pixel_maps
from fap_lib.model import FAPrompt, Prediction, StaticText

LOG = "training.jsonl"
STATE = "state.safetensors"


class TrainingSet(Protocol):
    """What training needs of a dataset; `fap_lib.data.features.FeatureCache` has it.

    name, digest: what the data are. labels: 0 normal, 1 anomalous, of each image. backbone, settings: what
    made the features.
    """

    name: str
    digest: str
    backbone: Backbone
    settings: FeatureSettings

    @property
    def labels(self) -> list[int | None]: ...

    def __len__(self) -> int: ...

    def features(self, index: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Unit global (b, D) and patch (b, N, D) features of some images."""

    def masks(self, index: np.ndarray) -> Tensor:
        """Masks (b, H, W) of some images."""

    def seeds(self, index: np.ndarray) -> list[int]:
        """A number for each of some images, from which random patches are drawn."""

    def check_trainable(self) -> None:
        """Refuse a dataset with an image without label, or an anomalous one without mask."""


def losses(
    prediction: Prediction, static: StaticText, label: Tensor, mask: Tensor, settings: TrainSettings
) -> dict[str, Tensor]:
    """All terms of the training loss, and their weighted sum `total`.

    Args:
        label: (B,) 0 normal, 1 anomalous. mask: (B, H, W) in {0, 1}.

    Source: `train.py:85-161`; weights as there (ledger: score-weights).
    """
    size = mask.shape[-1]
    terms = {
        "pixel_static": map_loss(pixel_maps(prediction.static[..., 1], size), mask),
        "image_ce": image_cross_entropy(prediction.image_logits, label),
        "image_focal": image_focal_loss(prediction.score, label),
        "orthogonal": orthogonality_loss(static.abnormal),
    }
    if prediction.prior is not None:
        terms["pixel_adapted"] = map_loss(pixel_maps(prediction.adapted[..., 1], size), mask)
        terms["prior"] = prior_loss(prediction.prior, label)
    total = sum(getattr(settings, f"{name}_weight") * value for name, value in terms.items())
    return {**terms, "total": total}


def make_optimiser(model: FAPrompt, settings: TrainSettings) -> torch.optim.Adam:
    """Adam over the prompts and the prior network; no schedule (`train.py:49`)."""
    betas = (settings.beta1, settings.beta2)
    return torch.optim.Adam(model.parameters(), lr=settings.learning_rate, betas=betas)


def batches(
    count: int, settings: TrainSettings, first_step: int = 0
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(epoch, step, indices) of every batch, both counted from 1; the order depends on (seed, epoch)."""
    per_epoch = math.ceil(count / settings.batch_size)
    for epoch in range(first_step // per_epoch + 1, settings.epochs + 1):
        order = np.random.default_rng([settings.seed, epoch]).permutation(count)
        start = max(0, first_step - (epoch - 1) * per_epoch)
        for index in range(start, per_epoch):
            chosen = order[index * settings.batch_size : (index + 1) * settings.batch_size]
            yield epoch, (epoch - 1) * per_epoch + index + 1, np.sort(chosen)


def train(
    model: FAPrompt,
    data: TrainingSet,
    settings: TrainSettings,
    folder: Path,
    validate: Callable[[FAPrompt], dict[str, float]] | None = None,
    follow: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train `model` on a cached dataset and write its checkpoint into `folder`.

    Writes `training.jsonl` (one line a step; one more an epoch if there is a validation), the prompts
    of the last epoch, and those of `settings.keep_epochs`. A run that was interrupted in the same
    folder with the same settings continues where its last state was saved.

    Args:
        validate: called after each epoch, its figures go to the log; nothing is chosen by them.
        follow: called with each step's line of the log, such as `fap_lib.pictures.style.live_curves`.

    Returns:
        Path of the checkpoint.

    Raises:
        KitError: an image without label or mask, other settings than the interrupted run's, a loss
            that is not finite, no GPU memory left, a disk that is full.
    """
    data.check_trainable()
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    optimiser = make_optimiser(model, settings)
    identity = json.dumps(
        [model.settings.model_dump(), settings.model_dump(), data.settings.model_dump(), data.digest],
        sort_keys=True,
    )
    done, seconds = _resume(folder, model, optimiser, identity)
    per_epoch = math.ceil(len(data) / settings.batch_size)
    before = time.perf_counter() - seconds

    def keep(name: str, epoch: int) -> Path:
        about = {"dataset": data.name, "images": len(data), **settings.model_dump(), "epoch": epoch}
        checkpoints.save_prompts(folder / name, model, data.backbone, data.settings, about)
        return folder / name

    model.train()
    with disk_errors(folder), open(folder / LOG, "a", encoding="utf-8") as log:

        def write(line: dict[str, Any]) -> None:
            log.write(json.dumps(line) + "\n")

        steps = batches(len(data), settings, done)
        for epoch, number, index in bar(steps, "training", settings.epochs * per_epoch, start=done):
            line: dict[str, Any] = {"step": number, "epoch": epoch}
            terms = step(model, optimiser, data, index, settings)
            if not math.isfinite(terms["total"]):
                raise KitError(
                    f"the training loss became {terms['total']} at step {number}; lower learning_rate "
                    f"(now {settings.learning_rate})."
                )
            write({**line, **terms, "seconds": round(time.perf_counter() - before, 3)})
            if follow is not None:
                follow({**line, **terms})
            epoch_ends = number % per_epoch == 0
            if epoch_ends and validate is not None:
                model.eval()
                write({**line, "validation": validate(model)})
                model.train()
            if epoch_ends and epoch in settings.keep_epochs:
                keep(f"epoch_{epoch:02d}.safetensors", epoch)
            if number % settings.save_every == 0 or epoch_ends:
                log.flush()
                _save_state(folder, model, optimiser, identity, number, time.perf_counter() - before)
    model.eval()
    path = keep(PROMPTS, settings.epochs)
    (folder / STATE).unlink(missing_ok=True)
    return path


def step(
    model: FAPrompt,
    optimiser: torch.optim.Optimizer,
    data: TrainingSet,
    index: np.ndarray,
    settings: TrainSettings,
) -> dict[str, float]:
    """One step on some images of a dataset: forward, losses, backward, optimiser.

    Returns:
        All terms of the loss (`losses`), before the step.

    Raises:
        KitError: no GPU memory left.
    """
    device = next(model.parameters()).device
    labels = data.labels
    label = torch.tensor([labels[i] for i in index], device=device)  # (B,)
    try:
        image, patches = data.features(index, device)  # (B, D), (B, N, D)
        static = model.static_text()
        prediction = model(image, patches, static, data.seeds(index))
        mask = data.masks(index).to(device)  # (B, H, W)
        terms = losses(prediction, static, label, mask, settings)
        optimiser.zero_grad()
        terms["total"].backward()
    except torch.cuda.OutOfMemoryError as error:
        raise KitError(
            f"the GPU has no memory left for a training batch of {settings.batch_size}; "
            f"set batch_size to {max(1, settings.batch_size // 2)}."
        ) from error
    optimiser.step()
    return {name: round(float(value.detach()), 6) for name, value in terms.items()}


def _save_state(
    folder: Path, model: FAPrompt, optimiser: torch.optim.Adam, identity: str, step: int, seconds: float
) -> None:
    header = {"identity": identity, "step": str(step), "seconds": str(seconds)}
    write_tensors(folder / STATE, state_of(model, optimiser), header)


def _resume(folder: Path, model: FAPrompt, optimiser: torch.optim.Adam, identity: str) -> tuple[int, float]:
    """Steps done and seconds spent by an interrupted run, whose state is put back; else 0 and 0."""
    path, log = folder / STATE, folder / LOG
    if not path.exists():
        log.unlink(missing_ok=True)
        return 0, 0.0
    remedy = f"this training cannot be continued: choose another folder, or delete {path} to start anew"
    tensors, header = read_tensors(path, remedy)
    if header["identity"] != identity:
        raise KitError(
            f"{folder} holds an interrupted training with other settings or data; finish it with its own "
            f"settings, choose another folder, or delete {path}."
        )
    put_back(tensors, model, optimiser)
    step = int(header["step"])
    _cut_log(log, step)
    return step, float(header["seconds"])


def _cut_log(log: Path, step: int) -> None:
    """Drop what the interrupted run logged after its last saved state."""
    if not log.exists():
        return
    end = 0
    with open(log, "rb") as file:
        for line in file:
            try:
                if json.loads(line)["step"] > step:
                    break
            except ValueError:  # a line the kill cut short
                break
            end += len(line)
    os.truncate(log, end)
