"""What a run leaves behind: `run.json`, so that each figure leads back to how it was made."""

import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fap_lib import __version__
from fap_lib.clip.backbone import Backbone
from fap_lib.core import paths
from fap_lib.core.config import Profile
from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors, sha256
from fap_lib.core.sealed import read_sealed, write_sealed
from fap_lib.data.manifest import Manifest

RUN_FILE = "run.json"

_RESULTS = {".csv", ".json", ".jsonl", ".npy", ".safetensors"}


@dataclass
class Run:
    """One step of a run; `finish` writes its manifest into `folder`."""

    folder: Path
    kind: str
    facts: dict[str, Any]
    started: float = field(default_factory=time.perf_counter)

    def finish(self, **results: Any) -> Path:
        """Write `run.json` atomically, with a digest of every result in the folder, and return its path.
        `results` are JSON values."""
        path = self.folder / RUN_FILE
        spent = {
            "seconds": round(time.perf_counter() - self.started, 2),
            "peak_memory_mb": peak_memory_mb(),
            "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20)
            if torch.cuda.is_available()
            else None,
        }
        kept = [item for item in self.folder.iterdir() if item.suffix in _RESULTS and item != path]
        files = {item.name: sha256(item) for item in sorted(kept) if item.is_file()}
        write_sealed(path, {"kind": self.kind, **self.facts, **spent, **results, "files": files})
        return path


def read_run(folder: Path) -> dict[str, Any]:
    """What `finish` wrote into a run's folder.

    Raises:
        KitError: there is nothing, or it is not as it was written.
    """
    return read_sealed(folder / RUN_FILE, "run manifest", "run that step again")


def result(folder: Path, name: str) -> Path:
    """The path of a run's result, whose content is as the run wrote it.

    Raises:
        KitError: it is missing or has changed.
    """
    path, noted = folder / name, read_run(folder)["files"]
    if not path.is_file():
        raise KitError(f"there is no {name} in {folder}; run that step again.")
    if name in noted and sha256(path) != noted[name]:
        raise KitError(f"{path} has changed since its run, or is damaged; run that step again.")
    return path


def is_whole(folder: Path) -> bool:
    """Whether a run's record and all results it names are as the run wrote them."""
    try:
        for name in read_run(folder)["files"]:
            result(folder, name)
    except KitError:
        return False
    return True


def start_run(
    folder: str | Path, kind: str, profile: Profile, backbone: Backbone, manifest: Manifest, device: str
) -> Run:
    """Begin a run in `folder` (made if missing) and note everything its results depend on."""
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    facts = {
        **environment(backbone, device),
        "label": label(profile, backbone, manifest),
        "data": {
            "name": manifest.name,
            "manifest_sha256": sha256(manifest.root / "meta.json"),
            "mask_rule": manifest.mask_rule,
        },
        "settings": profile.model_dump(exclude={"label"}),
        "seed": profile.training.seed,
    }
    return Run(folder, kind, facts)


def environment(backbone: Backbone, device: str) -> dict[str, Any]:
    """Kit, CLIP, device and software: what the figures of any run depend on beside its data and settings."""
    return {
        "kit": {"version": __version__, "commit": commit()},
        "lock": sha256(paths.LOCK) if paths.LOCK.is_file() else None,
        "weights": {
            "backbone": backbone.name,
            "sha256": backbone.weights_sha256,
            "trained": backbone.trained,
        },
        "device": torch.cuda.get_device_name()
        if device == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "software": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "open_clip_torch": version("open_clip_torch"),
        },
    }


def label(profile: Profile, backbone: Backbone, manifest: Manifest) -> str:
    """What figures mean that a CLIP makes on a dataset."""
    if not backbone.trained:
        return "random weights, these figures mean nothing"
    return f"{profile.label}, on generated images" if manifest.generated else profile.label


def commit() -> str | None:
    """The kit's git commit, with `+changes` if tracked files differ from it; None outside a checkout."""
    if not (paths.REPOSITORY / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(paths.REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        return head + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)
