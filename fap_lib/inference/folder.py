"""A folder of one's own images: scores, maps, and a threshold from normal ones (`fap score`, notebook 10)."""

from collections import Counter
from pathlib import Path
from typing import Any

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
from fap_lib.evaluation.scoring import Scores
from fap_lib.pictures.style import palette
from fap_lib.runs.notebook import run_notebook
from fap_lib.runs.preparation import check_images, in_dataset

NOTEBOOK = "10_your_own_images"
MAPS = "maps"
SHIPPED = ("paper", "released")


def score_folder(
    images: Path,
    prompts: str = "paper",
    profile: str = "mini",
    normal: Path | None = None,
    alpha: float = 0.05,
    run: Path | None = None,
    device: str = "auto",
) -> Path:
    """Run notebook 10 on a folder, without its lessons.

    Args:
        images: anything `fap data folder` understands. prompts: `paper` or `released`, which ship with the
            mini profile, or a checkpoint. normal: normal images for a threshold. run: by default
            `runs/score-NAME`.

    Returns:
        The run folder: `scores.csv`, `maps/`, the executed notebook, `run.json`, and `metrics.csv` if there
        are labels.

    Raises:
        KitError: no such folder or prompts, an image that cannot be read, too few normal images.
    """
    sources = [arguments.folder(source) for source in (images, normal) if source is not None]
    folder = arguments.new_folder(run or paths.runs() / f"score-{sources[0].name}")
    for source in sources:
        if folder.is_relative_to(source):
            raise KitError(f"the results would go into {source} itself; choose another folder with --run.")
        check_images(source)  # no images: said at once, and not by a notebook
    parameters = {
        "images": str(sources[0]),
        "normal": str(sources[1]) if normal is not None else None,
        "alpha": alpha,
        "prompts": find_prompts(prompts, profile),
        "profile": profile,
        "run": str(folder),
        "device": device,
    }
    run_notebook(NOTEBOOK, parameters, folder, lesson=False)
    return folder


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
    bad = [record for record in manifest.records("test") if record.label == 1]
    if bad:
        raise KitError(
            f"the normal images contain {len(bad)} of other kinds, such as {in_dataset(bad[0].image)}; "
            "give a folder with normal images only."
        )
    return manifest


def shared(one: Manifest, other: Manifest) -> int:
    """How many test images of `one` are also test images of `other` (the same files)."""
    files = {(other.root / record.image).resolve() for record in other.records("test")}
    return sum((one.root / record.image).resolve() in files for record in one.records("test"))


def rows(scores: Scores, calibration: Calibration | None) -> list[dict[str, Any]]:
    """What `scores.csv` says: one row an image, highest score first.

    Columns: image (path in the folder), score and global_probability in [0, 1], flagged (yes, no, or empty
    without a threshold), label (0 normal, 1 anomalous, or empty), map (path of its map).
    """
    records = scores.cache.records
    names = map_names(records)
    table = []
    for index in np.argsort(-scores.image, kind="stable"):
        flagged = "" if calibration is None else "yes" if calibration.flags(scores.image[index]) else "no"
        table.append(
            {
                "image": str(in_dataset(records[index].image)),
                "score": f"{scores.image[index]:.6f}",
                "global_probability": f"{scores.probability[index]:.6f}",
                "flagged": flagged,
                "label": records[index].label,
                "map": names[index],
            }
        )
    return table


def map_names(records: list[Record]) -> list[str]:
    """For each image the path of its map: as the image, with `.png` for its suffix, or behind it where two
    images would otherwise share a map."""
    places = [in_dataset(record.image) for record in records]
    stems = Counter(place.with_suffix("") for place in places)
    return [
        f"{MAPS}/{place.with_suffix('') if stems[place.with_suffix('')] == 1 else place}.png"
        for place in places
    ]


def write_maps(folder: Path, scores: Scores, sigma: float, batch: int = 16) -> None:
    """Write every anomaly map as a PNG as large as its image, 256 colours from 0 to 1.

    The colours are a palette: the stored value, over 255, is the abnormal probability.

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
            pixels = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
            picture = Image.fromarray(np.rint(255 * pixels.clip(0, 1)).astype(np.uint8), mode="P")
            picture.putpalette(palette())
            with atomic(folder / names[place]) as temporary:
                picture.save(temporary, format="PNG", optimize=True)
