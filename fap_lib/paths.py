"""Every place the kit reads from or writes to, independent of the working directory."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"
LOCK = REPOSITORY / "requirements.lock"
WORKFLOW = REPOSITORY / "workflow"
SNAPSHOT = REPOSITORY / "benchmarks" / "results" / "grid-mini"

PROMPTS = "prompts.safetensors"
"""Name of the checkpoint in a training's folder."""


def home() -> Path:
    """Folder for what the kit makes: `$FAP_HOME`, or the repository itself."""
    return Path(os.environ.get("FAP_HOME", REPOSITORY)).expanduser().resolve()


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
    path = Path(name).expanduser()
    return data() / name if len(path.parts) == 1 and not path.is_absolute() else path


def run(name: str) -> Path:
    """A place of a run: relative paths start at `home()`, not at the working directory."""
    return home() / Path(name).expanduser()


def grid(name: str) -> Path:
    """The folder of a grid of runs; `snapshot` is the mini grid's results that come with the kit."""
    return SNAPSHOT if name == "snapshot" else run(name)


def models() -> Path:
    """CLIP weights that a user put there, for machines without network."""
    return home() / "models"
