"""The figures, one script each: `make figures`, or `python -m figures.NAME`.

A script has `draw(...)`, which makes the figure, and `main(...)`, which saves it.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from fap_lib import paths
from fap_lib.errors import KitError
from fap_lib.files import atomic

COMMITTED = Path(__file__).parent
"""Where the PNGs lie that pages of the repository show."""


def save_figure(figure: Figure, name: str, committed: bool = False, dpi: int = 150) -> list[Path]:
    """Write a figure as PDF and PNG below `build/figures/` and close it. Same figure, same bytes.

    Args:
        committed: a page shows it, so a small PNG of 256 colours goes to `figures/` as well.

    Returns:
        The files.
    """
    folder = paths.home() / "build" / "figures"
    pdf, png, small = folder / f"{name}.pdf", folder / f"{name}.png", COMMITTED / f"{name}.png"
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
    with atomic(png) as temporary:
        temporary.write_bytes(drawn.getvalue())
    with atomic(pdf) as temporary:  # no date, and no version of what drew it
        figure.savefig(
            temporary, format="pdf", dpi=dpi, metadata=dict.fromkeys(("CreationDate", "Creator", "Producer"))
        )
    plt.close(figure)
    if not committed:
        return [pdf, png]
    with atomic(small) as temporary:
        Image.open(drawn).convert("RGB").quantize(256).save(temporary, format="png", optimize=True)
    return [pdf, png, small]


def run(main: Callable[[], list[Path]]) -> None:
    """Call a script's main and print the files it wrote; a `KitError` is one sentence and exit status 2."""
    try:
        print(*main(), sep="\n")
    except KitError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
