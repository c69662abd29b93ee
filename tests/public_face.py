"""A user's script over the public names; `make lint` reads it as `mypy --strict` would, nothing runs it."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from torch import Tensor

from fap_lib import (
    Backbone,
    Checkpoint,
    Detector,
    FAPrompt,
    FeatureCache,
    KitError,
    Manifest,
    Prediction,
    Profile,
    Result,
    Scores,
    device_name,
    evaluate,
    features,
    load_backbone,
    load_profile,
    load_prompts,
    read_manifest,
    save_prompts,
    score,
    train,
)


def learn(folder: Path) -> Checkpoint:
    profile = assert_type(load_profile("mini", {"training": {"epochs": 2}}), Profile)
    device = assert_type(device_name("cpu"), str)
    backbone = assert_type(load_backbone(profile.features.backbone), Backbone)
    backbone.to(device, profile.features.precision)
    manifest = assert_type(read_manifest(folder), Manifest)
    cache = assert_type(features(manifest, "test", backbone, profile.features), FeatureCache)
    model = FAPrompt(backbone.text_tower, profile.model, backbone.patch_width)
    path = assert_type(train(model, cache, profile.training, folder / "run"), Path)
    save_prompts(path, model, backbone, profile.features, {"note": "a copy"})
    scores = assert_type(score(model, cache, profile.scoring, folder / "patches.npy"), Scores)
    assert_type(scores.image, np.ndarray)
    assert_type(evaluate(scores, profile.scoring), list[dict[str, Any]])
    return load_prompts(path, backbone)


def predict(checkpoint: Checkpoint, cache: FeatureCache) -> Tensor:
    image, patches = cache.features(np.arange(2))
    prediction: Prediction = checkpoint.model(image, patches)
    return assert_type(prediction.score, Tensor)


def detect(detector: Detector, image: Path) -> Result:
    try:
        return detector.predict(image)
    except KitError as error:
        raise SystemExit(str(error)) from error
