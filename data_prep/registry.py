"""The datasets the kit can prepare: one entry each, with the facts a user or a check needs.

Adding a dataset is one entry here and, only where its raw layout is new, one short function in
`layouts.py`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_prep import layouts
from fap_lib.errors import KitError
from fap_lib.manifest import MaskRule, Record


@dataclass(frozen=True)
class Dataset:
    """What is known of one dataset.

    folder, holds: how the root of the raw download is recognised: what its name begins with (in lower
        case; empty for any), and what lies in it.
    layout: raw root to records of the test split. expected: (normal, anomalous) test images.
    """

    name: str
    title: str
    domain: str
    source: str
    terms: str
    citation: str
    folder: str
    holds: tuple[str, ...]
    layout: Callable[[Path], list[Record]]
    expected: tuple[int, int]
    mask_rule: MaskRule = "nonzero"
    protocol: str = "all images"


_ENTRIES = (
    Dataset(
        name="elpv",
        title="ELPV, solar cells",
        domain="industrial",
        source="github.com/zae-bayern/elpv-dataset",
        terms="images CC BY-NC-SA 4.0",
        citation="Buerhop-Lutz et al. 2018; Deitsch et al. 2019, 2021",
        folder="",
        holds=("labels.csv", "images"),
        layout=layouts.elpv,
        expected=(377, 715),
        protocol="normal: probability 0, a quarter of them; anomalous: probability 1; all others dropped",
    ),
    Dataset(
        name="brainmri",
        title="Brain MRI, tumours",
        domain="medical",
        source="kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection (login)",
        terms="licence not stated",
        citation="N. Chakrabarty, Brain MRI Images for Brain Tumor Detection, 2019",
        folder="brain",
        holds=("no", "yes"),
        layout=layouts.brainmri,
        expected=(98, 155),
    ),
    Dataset(
        name="kvasir",
        title="Kvasir-SEG, polyps",
        domain="medical",
        source="datasets.simula.no/kvasir-seg",
        terms="research and education",
        citation="Jha et al. 2020",
        folder="kvasir",
        holds=("images", "masks"),
        layout=layouts.images_and_masks,
        expected=(0, 1000),
        # Stored as JPEG: above 0 would take compression noise for anomaly (ledger: mask-rule).
        mask_rule="half",
    ),
)

DATASETS = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Dataset:
    """The entry of a dataset.

    Raises:
        KitError: unknown name; the message has the nearest known one.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0)[0]
        known = ", ".join(DATASETS)
        raise KitError(f"unknown dataset {name!r}; the nearest known one is {near!r} (known: {known}).")
    return DATASETS[name]
