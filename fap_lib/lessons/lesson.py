"""What most notebooks begin with: a dataset's features and prompts that were learned before.

Notebooks 1, 4 and 5 take these steps one by one; the others need their outcome.
"""

from dataclasses import dataclass
from typing import Any

from fap_lib.clip import mini
from fap_lib.clip.backbone import Backbone, device_name, load_backbone
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings, Profile, load_profile
from fap_lib.data.features import FeatureCache, features
from fap_lib.data.manifest import Manifest, read_manifest
from fap_lib.model import FAPrompt
from fap_lib.official.checkpoint import open_prompts
from fap_lib.runs.parameters import LessonRun


@dataclass(frozen=True)
class Lesson:
    """A dataset, its features, and prompts.

    about: what the prompts' file says of their training. features: how they want features to be made.
    """

    profile: Profile
    device: str
    backbone: Backbone
    manifest: Manifest
    cache: FeatureCache
    model: FAPrompt
    about: dict[str, Any]
    features: FeatureSettings


def open_lesson(config: LessonRun) -> Lesson:
    """Load what a notebook's parameters name, and extract the features that are missing.

    Raises:
        KitError: the dataset is not prepared, the prompts do not fit the backbone, a setting is wrong.
    """
    profile = load_profile(config.profile, config.settings)
    device = device_name(config.device)
    manifest = read_manifest(paths.dataset(config.data))
    backbone = load_backbone(profile.features.backbone, profile.features.weights)
    shipped = profile.features.backbone == mini.MINI and config.prompts in ("paper", "released")
    path = mini.prompts(config.prompts) if shipped else paths.run(config.prompts)
    learned = open_prompts(path, backbone, profile.features)
    backbone.to(device, learned.features.precision)
    cache = features(manifest, config.split, backbone, learned.features)
    model = learned.model.to(device).eval()
    return Lesson(profile, device, backbone, manifest, cache, model, learned.about, learned.features)
