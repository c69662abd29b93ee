"""What bfloat16 and float16 change: AUROC, in points, against float32."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from data_prep.mini import benchmark
from fap_lib import checkpoints
from fap_lib.clip import mini
from fap_lib.clip.backbone import Backbone, load_backbone
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings, Precision, ScoreSettings, load_profile
from fap_lib.data.features import features
from fap_lib.evaluation.scoring import MEAN, evaluate, score
from fap_lib.model import FAPrompt
from fap_lib.official import parity

LIMIT = 0.1
"""Points of AUROC that a lower precision may cost or bring."""


def compare(folder: Path, precisions: Sequence[Precision]) -> list[dict[str, Any]]:
    """Mean image and pixel AUROC (in per cent) of each precision and model, and the change from float32.

    Args:
        precisions: those worth timing on this processor, float32 first; others would take minutes here.
    """
    results = []
    for name, build, manifest, settings, scoring in subjects(folder):
        first: dict[str, float] = {}
        for precision in precisions:
            backbone, model = build()  # fresh: `to` changes a backbone's weights for good
            backbone.to("cpu", precision)
            chosen = settings.model_copy(update={"precision": precision})
            scores = score(model, features(manifest, "test", backbone, chosen), scoring, folder / "p.npy")
            means = [row for row in evaluate(scores, scoring) if row["category"] == MEAN]
            auroc = {row["level"]: 100 * row["value"] for row in means if row["metric"] == "auroc"}
            first = first or auroc
            change = {level: value - first[level] for level, value in auroc.items()}
            results.append(
                {
                    "model": name,
                    "images": len(scores.image),
                    "precision": precision,
                    "auroc": auroc,
                    "change": change,
                    "limit": LIMIT,
                }
            )
    return results


def subjects(folder: Path) -> Iterator[tuple]:
    """Name, builder of backbone and model, dataset, and settings of each model."""
    with np.load(paths.GOLDEN, allow_pickle=False) as file:
        config = json.loads(str(file["config"]))

    def golden() -> tuple[Backbone, FAPrompt]:
        backbone = parity.build_backbone(config)
        return backbone, parity.build_model(backbone, config, "paper")

    settings = FeatureSettings(backbone="parity", image_size=config["size"], vv_blocks=config["dpam"] - 1)
    manifest = data.write_dataset(folder / "precision", each=50)
    yield "golden size, random weights, generated images", golden, manifest, settings, ScoreSettings()

    weights = mini.WEIGHTS / "prompts-paper.safetensors"
    if weights.is_file():

        def small() -> tuple[Backbone, FAPrompt]:
            backbone = load_backbone(mini.MINI)
            return backbone, checkpoints.load_prompts(weights, backbone).model

        profile = load_profile(mini.MINI)
        for data_name in ("mini-val", "mini-test"):
            manifest = benchmark.generate(folder / data_name, data_name)
            what = f"mini CLIP and its prompts, {data_name}"
            yield what, small, manifest, profile.features, profile.scoring
