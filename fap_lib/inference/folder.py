"""What `fap score` and notebook 10 say of one's own images: rows, maps as files, which images are normal."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fap_lib.clip import mini
from fap_lib.core import arguments, paths
from fap_lib.core.config import load_profile
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic
from fap_lib.core.progress import bar
from fap_lib.data.images import opened
from fap_lib.data.manifest import Manifest, Record
from fap_lib.evaluation.calibration import Calibration
from fap_lib.inference.detector import SHIPPED
from fap_lib.inference.result import resized
from fap_lib.pictures.colours import palette
from fap_lib.runs.preparation import in_dataset

if TYPE_CHECKING:
    from fap_lib.evaluation.scoring import Scores  # scikit-learn comes with it, and is slow to import

MAPS = "maps"


def find_prompts(prompts: str, profile: str) -> str:
    """`prompts` as notebooks take it: a name of shipped ones, or an absolute path.

    Raises:
        KitError: neither.
    """
    backbone = load_profile(profile).features.backbone
    path = arguments.place(prompts)
    if prompts in SHIPPED and backbone == mini.MINI:
        return prompts
    if path.is_file():
        return str(path)
    shipped = f"{' or '.join(SHIPPED)}, which ship with the profile mini, or "
    raise KitError(
        f"there are no prompts {prompts!r} for the profile {profile}; give "
        f"{shipped if backbone == mini.MINI else ''}the path of a checkpoint, such as a run's "
        f"training/{paths.PROMPTS}."
    )


def normal_only(manifest: Manifest) -> Manifest:
    """`manifest`, if none of its images is known to be anomalous.

    Raises:
        KitError: one is, so a threshold from them would promise nothing.
    """
    refuse_anomalous(manifest.records("test"))
    return manifest


def refuse_anomalous(records: list[Record]) -> None:
    """Refuse images of other kinds among those a threshold is to come from.

    Raises:
        KitError: there are some.
    """
    bad = [record for record in records if record.label == 1]
    if bad:
        raise KitError(
            f"the normal images contain {len(bad)} of other kinds, such as {in_dataset(bad[0].image)}; "
            "give a folder with normal images only."
        )


def shared(one: Manifest, other: Manifest) -> int:
    """How many test images of `one` are also test images of `other` (the same files)."""
    files = {(other.root / record.image).resolve() for record in other.records("test")}
    return sum((one.root / record.image).resolve() in files for record in one.records("test"))


def rows(
    records: list[Record], scores: np.ndarray, probabilities: np.ndarray, calibration: Calibration | None
) -> list[dict[str, Any]]:
    """What `scores.csv` says: one row an image, highest score first.

    Columns: image (path in the folder), score and global_probability in [0, 1], flagged (yes, no, or empty
    without a threshold), label (0 normal, 1 anomalous, or empty), map (path of its map).
    """
    names = map_names(records)
    made = []
    for index in np.argsort(-scores, kind="stable"):
        flagged = "" if calibration is None else "yes" if calibration.flags(scores[index]) else "no"
        made.append(
            {
                "image": str(in_dataset(records[index].image)),
                "score": f"{scores[index]:.6f}",
                "global_probability": f"{probabilities[index]:.6f}",
                "flagged": flagged,
                "label": records[index].label,
                "map": names[index],
            }
        )
    return made


def map_names(records: list[Record]) -> list[str]:
    """For each image the path of its map: as the image, with `.png` for its suffix, or behind it where two
    images would otherwise share a map."""
    places = [in_dataset(record.image) for record in records]
    stems = Counter(place.with_suffix("") for place in places)
    return [
        f"{MAPS}/{place.with_suffix('') if stems[place.with_suffix('')] == 1 else place}.png"
        for place in places
    ]


def write_maps(folder: Path, scores: "Scores", sigma: float, batch: int = 16) -> None:
    """Write every anomaly map as `save_map` does.

    Args:
        sigma: smoothing in pixels of the scored image.
    """
    cache = scores.cache
    names = map_names(cache.records)
    starts = range(0, len(cache), batch)
    for start in bar(starts, "maps", len(starts)):
        index = np.arange(start, min(start + batch, len(cache)))
        for place, values in zip(index, scores.maps(index, sigma).numpy(), strict=True):
            with opened(cache.root / cache.records[place].image) as image:
                size = image.size
            save_map(folder / names[place], resized(values, *size))


def save_map(path: Path, values: np.ndarray) -> None:
    """Write a map (H, W) as a PNG of 256 colours from 0 to 1.

    The colours are a palette: the stored value, over 255, is the abnormal probability.
    """
    picture = Image.fromarray(np.rint(255 * values.clip(0, 1)).astype(np.uint8), mode="P")
    picture.putpalette(palette())
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
