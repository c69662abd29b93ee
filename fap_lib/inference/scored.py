"""`fap score`: one's own images through a detector into a folder of results."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from fap_lib.core import arguments, paths
from fap_lib.core.config import ScoreSettings, load_profile, profile_of
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic, disk_errors, write_json, write_text
from fap_lib.core.progress import Steps, bar
from fap_lib.data.images import as_rgb, open_image
from fap_lib.evaluation.calibration import Calibration, check_count
from fap_lib.inference.detector import Detector, Errors
from fap_lib.inference.folder import MAPS, map_names, refuse_anomalous, rows, save_map
from fap_lib.inference.gallery import PAGE, Card, Gallery, thumbnail
from fap_lib.inference.overlay import overlay
from fap_lib.inference.result import Result, WholeMap, resized
from fap_lib.inference.sources import Sources, gather
from fap_lib.runs.preparation import in_dataset
from fap_lib.runs.record import RUN_FILE, environment
from fap_lib.runs.results import METRICS, SCORES, table, write_metrics

OVERLAYS = "overlays"


@dataclass(frozen=True)
class Scored:
    """What `score_images` left in `folder`.

    rows: those of `scores.csv`. calibration: the threshold, if there is one. skipped: a sentence for each
    image left out. shared: how many images are also among the normal ones, whose verdicts promise nothing.
    """

    folder: Path
    rows: list[dict[str, Any]]
    calibration: Calibration | None
    skipped: list[str]
    shared: int


def score_images(
    given: Sequence[str],
    detector: Detector,
    normal: Path | None = None,
    alpha: float = 0.05,
    run: Path | None = None,
    overlays: bool = False,
    errors: Errors = "raise",
) -> Scored:
    """Score images into a folder: `scores.csv`, `maps/`, `gallery.html`, `run.json`, and metrics with labels.

    Images pass one after the other, so that memory does not grow with their number but for a line each.

    Args:
        given: files, patterns, and folders as `fap data folder` understands them. normal: a folder of normal
            images for a threshold; without one the detector's own is used, if it has one. run: by default
            `runs/score-NAME`. overlays: also write each image with its map over it, into `overlays/`.
            errors: as in `Detector.predict`.

    Raises:
        KitError: nothing to score, an image that cannot be read, too few normal images, a full disk.
    """
    sources = gather(given, detector.features.image_size)
    folder = arguments.new_folder(run or paths.runs() / f"score-{sources.name}")
    for place in (arguments.place(text) for text in [*given, *([str(normal)] if normal else [])]):
        if place.is_dir() and folder.is_relative_to(place):
            raise KitError(f"the results would go into {place} itself; choose another folder with --run.")
    shared = 0
    steps = Steps(2 + (normal is not None))
    if normal is not None:
        pool = gather([str(normal)], sources.image_size)
        refuse_anomalous(pool.records)
        check_count(len(pool), alpha)  # before any image is scored
        with steps.step("normal images"):
            detector.calibrate(bar(pool.paths(), "normal images", len(pool)), alpha)
        shared = len(set(pool.paths()) & set(sources.paths()))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (SCORES, PAGE, f"{METRICS}.json", f"{METRICS}.csv", RUN_FILE):
            (folder / stale).unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=folder) as spool:
            writer = _Writer(folder, sources, overlays, spool, detector)
            predictions = detector.predict(sources.paths(), errors)
            with steps.step("scoring"):
                for result in bar(predictions, "scoring", len(sources)):
                    writer.add(result)
            with steps.step("table and page"):
                table_ = writer.finish()
    if not table_:
        raise KitError(
            f"none of the {len(sources)} images could be read; the first: {predictions.skipped[0]}"
        )
    calibration = detector.threshold.score if detector.threshold else None
    facts = {
        "kind": "own images",
        **environment(detector.backbone, detector.device),
        "settings": {
            "features": detector.features.model_dump(),
            "model": detector.model.settings.model_dump(),
            "tiling": detector.tiling and asdict(detector.tiling),
        },
        "prompts": detector.about,
        "given": list(given),
        "images": len(table_),
        "skipped": predictions.skipped,
        "threshold": calibration and calibration.threshold,
        "calibration": calibration and asdict(calibration),
    }
    write_json(folder / RUN_FILE, facts)
    return Scored(folder, table_, calibration, predictions.skipped, shared)


class _Writer:
    """Takes results one by one and leaves files; of each image only a line stays in memory."""

    def __init__(self, folder: Path, sources: Sources, overlays: bool, spool: IO[bytes], detector: Detector):
        """spool: an empty file for what metrics are taken of at the end, where there are labels."""
        self.folder = folder
        self.sources = sources
        self.overlays = overlays
        self.spool = spool
        self.detector = detector
        self.judged = any(label is not None for label in sources.labels)
        self.names = map_names(sources.records)
        self.gallery = Gallery()
        self.index: list[int] = []
        self.scores: list[float] = []
        self.probabilities: list[float] = []

    def add(self, result: Result) -> None:
        place = self.names[result.index]
        save_map(self.folder / place, result.map)
        image = as_rgb(open_image(self.sources.root / self.sources.records[result.index].image))
        mapped = overlay(image, result.map, result.level)
        if self.overlays:
            target = self.folder / OVERLAYS / Path(place).relative_to(MAPS).with_suffix(".jpg")
            with atomic(target) as temporary:
                mapped.save(temporary, format="JPEG", quality=90)
        shown = in_dataset(self.sources.records[result.index].image)
        pictures = thumbnail(image), thumbnail(mapped)
        self.gallery.add(Card(str(shown), str(shown.parent), result.score, result.flagged, pictures))
        if self.judged:
            self.spool.write(self._evidence(result).tobytes())
        self.index.append(result.index)
        self.scores.append(result.score)
        self.probabilities.append(result.probability)

    def finish(self) -> list[dict[str, Any]]:
        """Write the table, the page, and metrics where there are labels; the rows of the table."""
        kept = self.sources.part(self.index)
        scores, probabilities = np.array(self.scores), np.array(self.probabilities)
        limits = self.detector.threshold
        calibration = limits.score if limits else None
        found = rows(kept.records, scores, probabilities, calibration)
        if found:
            write_text(self.folder / SCORES, table(found))
            self.gallery.write(self.folder, f"Scores of {self.sources.name}", _notes(self.detector))
        if self.judged and found:
            self._metrics(kept, scores, probabilities)
        return found

    def _evidence(self, result: Result) -> np.ndarray:
        """What metrics are taken of: the probabilities of its patches; where there are tiles, which have
        patches of their own, its map at the scored size."""
        if isinstance(result.evidence, WholeMap) and not self.detector.tiling:
            return result.evidence.patches
        return resized(result.map, self.sources.image_size, self.sources.image_size)

    def _metrics(self, kept: Sources, scores: np.ndarray, probabilities: np.ndarray) -> None:
        from fap_lib.evaluation.scoring import Scores, evaluate  # scikit-learn, only where there are labels

        self.spool.flush()
        drawn = self.detector.tiling is not None  # a drawn map is smooth already, and as fine as it is to be
        values = np.memmap(self.spool, np.float32, "r").reshape(len(kept), 1 if drawn else 2, -1)
        settings = ScoreSettings(sigma=0.0 if drawn else self.detector.sigma)
        judged = Scores(kept, scores, probabilities, values)
        write_metrics(self.folder, evaluate(judged, settings), _label(self.detector))


def _notes(detector: Detector) -> list[str]:
    limits, tiling = detector.threshold, detector.tiling
    notes = [f"These scores come from {_label(detector)}. Maps run from 0 (dark blue) to 1 (yellow)."]
    if tiling:
        notes.append(
            f"Images larger than {tiling.size} pixels were scored as a whole and in tiles of {tiling.size} "
            f"pixels that overlap by {tiling.overlap:.0%} or more."
        )
    if limits is None:
        return [*notes, "No threshold: give normal images with --normal, or prompts saved with one."]
    return [
        *notes,
        f"Flagged: a score above {limits.score.threshold:.3f}, which at most {limits.score.promised:.1%} of "
        f"normal images reach in the mean (from {limits.score.images} normal images). Red line: the map is "
        f"above {limits.map.threshold:.3f}.",
    ]


def _label(detector: Detector) -> str:
    """What results of this detector mean."""
    if not detector.backbone.trained:
        return "random weights, these figures mean nothing"
    profile = load_profile(profile_of(detector.backbone.name))
    return profile.label if detector.backbone.name == profile.features.backbone else detector.backbone.name
