"""All figures, one after the other: `python -m figures [--publish]`, or `make figures`."""

import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

from fap_lib.core.errors import KitError
from figures import run

SCRIPTS = (
    "framework",
    "one_image",
    "dataset_bars",
    "ablations",
    "sweeps",
    "qualitative",
    "prompt_similarity",
    "training_curves",
    "mini_samples",
    "mini_pretraining",
)


def main(publish: bool = False) -> list[Path]:
    """Draw every figure; what cannot be drawn says why, and the others are drawn all the same."""
    made, failed = [], []
    for name in SCRIPTS:
        try:
            draw = import_module(f"figures.{name}").main
            made += draw(publish=publish) if "publish" in signature(draw).parameters else draw()
        except KitError as error:
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr)
    if failed:
        print(*made, sep="\n")
        raise KitError(f"{len(failed)} of {len(SCRIPTS)} figures could not be drawn: {', '.join(failed)}.")
    return made


if __name__ == "__main__":
    run(main)
