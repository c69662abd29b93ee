"""The framework of FAPrompt: the paper's overview of CAP, DAP and the losses, drawn anew.

It depends on no run. The image and the maps in it are sketches.

    python -m figures.framework
"""

from pathlib import Path

from fap_lib.framework import draw
from figures import run, save_figure

__all__ = ["draw"]


def main() -> list[Path]:
    """Save the diagram."""
    return save_figure(draw(), "framework", committed=True)


if __name__ == "__main__":
    run(main)
