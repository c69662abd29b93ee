"""The explorer as JupyterLab shows it, photographed in a browser: python -m figures.explorer [--publish]

It needs chromium and chromedriver, and the demo's dataset (`make demo`).
"""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic
from figures import lab, run, save_small

NOTEBOOK = "11_explorer.ipynb"
PATIENCE = 300
"""Seconds for all cells to run."""


def photograph() -> Image.Image:
    """Run a copy of the notebook, and take a picture of its controls and its figure."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(paths.NOTEBOOKS / NOTEBOOK, folder)
        with lab.jupyterlab(Path(folder), paths.home()) as address, lab.chromium(1400, 1600) as driver:
            page = lab.Page(driver, address.format(NOTEBOOK))
            page.run_until_drawn(PATIENCE)
            return Image.open(io.BytesIO(page.photo())).convert("RGB")


def main(publish: bool = False) -> list[Path]:
    """Write the picture below `build/figures/`, and with `publish` the README's."""
    if lab.lacking():
        raise KitError(f"the explorer's picture needs a browser; not installed: {lab.lacking()}.")
    picture = photograph()
    file = paths.home() / "build" / "figures" / "explorer.png"
    with atomic(file) as temporary:
        picture.save(temporary, format="png", optimize=True)
    return [file, save_small(picture, file.name)] if publish else [file]


if __name__ == "__main__":
    run(main)
