"""Steps of a grid for datasets too large for one job: features in shards, on many machines, then joined."""

from pathlib import Path
from typing import Any

from fap_lib import paths, runs
from fap_lib.cache import features, gather, part
from fap_lib.clip import device_name, load_backbone
from fap_lib.config import ShardRun, load_profile
from fap_lib.manifest import read_manifest


def run(parameters: dict[str, Any]) -> Path:
    """Extract the features of one shard, or join all of them; the result equals that of one job.

    Args:
        parameters: see `fap_lib.config.ShardRun`.

    Returns:
        The run's manifest.

    Raises:
        KitError: a wrong parameter, more shards than batches, or what `fap_lib.cache.features` refuses.
    """
    config = ShardRun.parse(parameters)
    profile = load_profile(config.profile, config.settings)
    device = device_name(config.device)
    manifest = read_manifest(paths.dataset(config.data))
    backbone = load_backbone(profile.features.backbone, profile.features.weights)
    record = runs.start(paths.run(config.run), "shard", profile, backbone, manifest, device)
    backbone.to(device, profile.features.precision)
    if config.number is None:
        cache = gather(manifest, config.split, backbone, profile.features, config.count)
    else:
        shard = part(manifest, config.split, config.number, config.count)
        cache = features(shard, config.split, backbone, profile.features)
    return record.finish(images=len(cache), cache=cache.digest)
