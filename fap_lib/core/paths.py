"""Every place the kit reads from or writes to, independent of the working directory."""

import os
from pathlib import Path

from fap_lib.core import arguments

PACKAGE = Path(__file__).resolve().parent.parent
REPOSITORY = PACKAGE.parent
"""The checkout; of an installed wheel, the folder of all packages."""

KIT = PACKAGE / "kit" if (PACKAGE / "kit").is_dir() else REPOSITORY
"""What the kit brings beside code (notebooks, grids, the study's runs): a wheel has it inside the package."""

INSTALLED = KIT != REPOSITORY
"""Whether this is a wheel and not a checkout."""

NOTEBOOKS = KIT / "notebooks"
LOCK = KIT / "requirements.lock"
WORKFLOW = KIT / "workflow"
STUDY = KIT / "benchmarks" / "results" / "study.csv"
"""The runs of the study (`python -m benchmarks.study`)."""

SNAPSHOT = KIT / "benchmarks" / "results" / "grid-mini"
GOLDEN = KIT / "tests" / "golden" / "tiny.npz"
"""What the official code computes for random weights of toy size."""

PROMPTS = "prompts.safetensors"
"""Name of the checkpoint in a training's folder."""


def home() -> Path:
    """Folder for what the kit makes: `$FAP_HOME`, or the checkout, or `faprompt` in the user's home."""
    own = Path("~/faprompt") if INSTALLED else REPOSITORY
    return arguments.place(os.environ.get("FAP_HOME") or own)


def data() -> Path:
    """Prepared datasets, one folder each."""
    return home() / "data"


def cache() -> Path:
    """CLIP features of prepared datasets; safe to delete, rebuilt when needed."""
    return home() / "cache"


def runs() -> Path:
    """One folder per training or evaluation run."""
    return home() / "runs"


def dataset(name: str) -> Path:
    """A prepared dataset: a bare name lies below `data()`, anything else is a path."""
    if "/" not in name and not name.startswith("~"):
        return data() / arguments.name(name, "dataset")
    return arguments.place(name)


def run(name: str) -> Path:
    """A place of a run: relative paths start at `home()`, not at the working directory."""
    return arguments.place(name, home())


def grid(name: str) -> Path:
    """The folder of a grid of runs; `snapshot` is the mini grid's results that come with the kit."""
    return SNAPSHOT if name == "snapshot" else run(name)


def models() -> Path:
    """CLIP weights that a user put there, for machines without network."""
    return home() / "models"
