"""Precompute what the site's page "Try it" shows: maps of a dozen mini images under every prompt.

    python docs/try_it.py        # writes docs/extra/try/maps.js; needs `make demo`

The page itself (`docs/extra/try/index.html`) is plain HTML and reads nothing else. The data are a script and
not plain JSON, because a page opened from a file may not fetch anything.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fap_lib.core.files import write_text
from fap_lib.lessons.lesson import Lesson, open_lesson
from fap_lib.lessons.probing import ask, by_contrast
from fap_lib.pictures.views import Look, look_at
from fap_lib.runs.parameters import LessonRun

TARGET = Path(__file__).parent / "extra" / "try" / "maps.js"
COUNT = 12


def main() -> None:
    """Write the page's data."""
    lesson = open_lesson(LessonRun(data="mini-test", prompts="paper"))
    static = lesson.model.static_text()
    images = [entry(look_at(lesson, index, static)) for index in chosen(lesson)]
    content = {
        "about": f"{lesson.profile.label}; prompts learned on {lesson.about['dataset']}",
        "prompts": lesson.model.settings.n_prompts,
        "read": lesson.model.settings.n_patches,
        "images": images,
    }
    write_text(TARGET, f"const MAPS = {json.dumps(content, indent=0)};\n")
    print(f"{TARGET}: {TARGET.stat().st_size // 1000} kB")


def chosen(lesson: Lesson) -> list[int]:
    """Images with a defect first: the typical one of all, then that of each other category; then normal ones.

    Typical is the image in the middle when they are sorted by how far the anomaly map rises on the defect,
    as notebook 0 chooses. Of normal images it is the first of its category.
    """
    records = lesson.cache.records
    found = ask(lesson)
    ranked = by_contrast(found.prediction.patch_map, found.anomalous)
    typical = ranked[len(ranked) // 2]
    categories = list(dict.fromkeys([records[typical].category, *(record.category for record in records)]))
    own = {name: [i for i in ranked if records[i].category == name] for name in categories}
    bad = [typical, *(own[name][len(own[name]) // 2] for name in categories[1:])]
    good = [
        next(i for i, record in enumerate(records) if record.category == name and record.label == 0)
        for name in categories
    ]
    return [*bad, *good][:COUNT]


def entry(look: Look) -> dict[str, Any]:
    """One image: pixels as WebP, mask as bits, maps (static, adapted; prototype and K prompts) as bytes."""
    picture = io.BytesIO()
    Image.fromarray(look.pixels).save(picture, format="webp", quality=90)
    truth = look.truth if look.truth is not None else np.zeros(look.pixels.shape[:2], dtype=bool)
    return {
        "name": f"{look.record.category}, {look.record.defect}",
        "size": look.size,
        "grid": look.grid,
        "image": _text(picture.getvalue()),
        "mask": _text(np.packbits(truth).tobytes()),
        "maps": _text((255 * look.values[:2]).round().astype(np.uint8).tobytes()),
        "ranking": look.ranking[:20].tolist(),
        "score": round(look.score, 4),
    }


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


if __name__ == "__main__":
    main()
