"""The figures, one script each: `make figures`, or `python -m figures.NAME`.

A script has `draw(...)`, which makes the figure, and `main(...)`, which saves it and returns the files. With
`--publish` the small pictures that the repository's pages show are written as well.
"""

import argparse
import inspect
import io
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import fap_lib.pictures.style  # noqa: F401  (the one style of all figures)
from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic

PUBLISHED = Path(__file__).parent
"""Where the pictures lie that pages of the repository show."""


def save_figure(figure: Figure, name: str, publish: str | None = None, dpi: int = 150) -> list[Path]:
    """Write a figure as PDF and PNG below `build/figures/` and close it. Same figure, same bytes.

    Args:
        publish: `png` or `jpg`: write a small copy for the repository's pages as well.

    Returns:
        The files.
    """
    folder = paths.home() / "build" / "figures"
    pdf, png = folder / f"{name}.pdf", folder / f"{name}.png"
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
    with atomic(png) as temporary:
        temporary.write_bytes(drawn.getvalue())
    with atomic(pdf) as temporary:  # no date, and no version of what drew it
        figure.savefig(
            temporary, format="pdf", dpi=dpi, metadata=dict.fromkeys(("CreationDate", "Creator", "Producer"))
        )
    plt.close(figure)
    if publish is None:
        return [pdf, png]
    return [pdf, png, save_small(Image.open(drawn).convert("RGB"), f"{name}.{publish}")]


def save_small(picture: Image.Image, name: str) -> Path:
    """Write an RGB picture for the repository's pages, small: as JPEG, or as PNG with 256 colours."""
    copy = PUBLISHED / name
    with atomic(copy) as temporary:
        if name.endswith(".jpg"):
            picture.save(temporary, format="jpeg", quality=85)
        else:
            # This choice of colours keeps those of few pixels, such as a small stain's.
            few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=8)
            few.save(temporary, format="png", optimize=True)
    return copy


def needed(path: Path, command: str) -> Path:
    """`path`, which exists.

    Raises:
        KitError: it does not; the message names the command that makes it.
    """
    if not path.exists():
        raise KitError(f"there is no {path}; make it with: {command}")
    return path


def run(main: Callable[..., list[Path]]) -> None:
    """Call a script's main with the command line's options, and print the files it wrote.

    Options are main's parameters: `publish` is a switch, others take a text. A `KitError` is one sentence
    and exit status 2.
    """
    parser = argparse.ArgumentParser(description=inspect.getdoc(main))
    for name in inspect.signature(main).parameters:
        if name == "publish":
            parser.add_argument(
                "--publish", action="store_true", help="write the repository's picture as well"
            )
        else:
            parser.add_argument(f"--{name}")
    try:
        print(*main(**vars(parser.parse_args())), sep="\n")
    except KitError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
