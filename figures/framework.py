"""The framework of FAPrompt: the paper's overview of CAP, DAP and the losses, drawn anew.

It reads no run; the image and the maps in it are sketches. The picture is of the kit's default mode; the
released code lets the prior see other patches (`fap ledger`).

    python -m figures.framework [--publish]
"""

from pathlib import Path

from fap_lib.pictures.framework import draw
from figures import run, save_figure

__all__ = ["draw"]


def main(publish: bool = False) -> list[Path]:
    """Draw the framework."""
    return save_figure(draw(), "framework", "png" if publish else None)


if __name__ == "__main__":
    run(main)
