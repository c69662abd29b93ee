"""The steps of one run: each a notebook that is finished entirely or not at all, and then reused.

A step's record is all that its results depend on. Its last act is a mark that holds the record's hash, as a
job's of a grid is; whoever asks for the same step again finds it.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fap_lib.clip import mini
from fap_lib.core import arguments, paths
from fap_lib.core.config import FeatureSettings, load_profile
from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors, locked, sha256
from fap_lib.core.fingerprint import fingerprint
from fap_lib.core.progress import Steps
from fap_lib.data.manifest import DETAILS, read_manifest
from fap_lib.runs.marks import DONE, is_marked, mark
from fap_lib.runs.notebook import code_cells, run_notebook
from fap_lib.runs.record import is_whole


def dataset_digest(root: Path) -> str:
    """A hash of what decides a dataset's content: its test records, how masks are read, the hashes that its
    preparation noted, and size and time of each file, as the feature cache has them."""
    manifest = read_manifest(root)
    digest = hashlib.sha256(manifest.mask_rule.encode())
    if (manifest.root / DETAILS).is_file():
        digest.update(sha256(manifest.root / DETAILS).encode())
    for record in manifest.records("test"):
        digest.update(repr((record, manifest.stamp(record))).encode())
    return digest.hexdigest()


def weights_digest(settings: FeatureSettings) -> str:
    """A hash of the file with the backbone's weights, or where they come from otherwise."""
    candidates = [paths.models() / f"{settings.backbone}.safetensors"]
    if settings.backbone == mini.MINI:
        candidates = [mini.WEIGHTS / f"{mini.MINI}.safetensors"]
    if settings.weights:
        candidates = [arguments.place(settings.weights)]
    found = [sha256(path) for path in candidates if path.is_file()]
    return found[0] if found else f"{settings.backbone}, {settings.weights or 'open_clip'}"


class StepRunner:
    """Runs the notebooks of one run folder, and leaves out what is finished. Made by `steps_in`."""

    def __init__(self, steps: Steps, lock: int):
        self.steps = steps
        self.lock = lock

    def run(
        self, title: str, notebook: str, parameters: dict[str, Any], place: Path, prompts: Path | None = None
    ) -> None:
        """Run one notebook, unless it was finished with the same parameters, inputs and code, and its results
        are still as they were.

        Args:
            title: of the step. parameters: a `FeatureRun`'s or one of its kinds'. place: for the executed
            notebook. prompts: the file of prompts that it reads.

        Raises:
            KitError: see `fap_lib.runs.notebook.run_notebook`.
        """
        features = load_profile(parameters["profile"], parameters["settings"]).features
        record = {
            "notebook": notebook,
            "parameters": parameters,
            "code": fingerprint(code_cells(paths.NOTEBOOKS / f"{notebook}.ipynb")),
            "data": dataset_digest(Path(parameters["data"])),
            "weights": weights_digest(features),
            "prompts": sha256(prompts) if prompts else None,
        }
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        results = Path(parameters["run"])
        whole = is_marked(results, digest) and is_whole(results)
        if whole and (place / f"{notebook}.ipynb").is_file():
            self.steps.reused(title)
            return
        (results / DONE).unlink(missing_ok=True)
        begun = time.perf_counter()
        with self.steps.step(title):
            run_notebook(notebook, parameters, place, (self.lock,))
        mark(results, digest, time.perf_counter() - begun)


@contextmanager
def steps_in(folder: Path, total: int) -> Iterator[StepRunner]:
    """Run steps in `folder`, which nothing else may use meanwhile: kernels hold its lock, too.

    Raises:
        KitError: another run is at work there.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / ".lock", wait=False) as lock:
            yield StepRunner(Steps(total), lock)
    except BlockingIOError as error:
        raise KitError(
            f"another run is at work in {folder}; wait for it, or end it before starting a second one."
        ) from error
