"""The losses of a training, step by step. The paper has no such figure.

Reads: `runs/demo/training/training.jsonl` (`make demo`), or the log of another training.

    python -m figures.training_curves [--log runs/NAME/training/training.jsonl]
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fap_lib.core import paths
from fap_lib.core.files import read_lines
from fap_lib.pictures.style import loss_curves
from figures import needed, run, save_figure

LOG = "runs/demo/training/training.jsonl"


def draw(log: list[dict[str, Any]]) -> Figure:
    """A panel a term of the loss: each step, and the mean of each epoch.

    Args:
        log: lines of `training.jsonl`.
    """
    return loss_curves(log)


def main(log: str | None = None) -> list[Path]:
    """Draw the losses of a training."""
    path = needed(paths.run(log or LOG), "make demo")
    return save_figure(draw(read_lines(path, "training log")), "training_curves")


if __name__ == "__main__":
    run(main)
