"""Steps of a grid for datasets too large for one job: features in shards, on many machines, then joined."""

from pathlib import Path
from typing import Any

from fap_lib.clip.backbone import device_name, load_backbone
from fap_lib.core import paths
from fap_lib.core.config import load_profile
from fap_lib.data.features import features, join_shards, shard
from fap_lib.data.manifest import read_manifest
from fap_lib.runs.parameters import ShardRun
from fap_lib.runs.record import start_run


def make_features(parameters: dict[str, Any]) -> Path:
    """Extract the features of one shard, or join all of them; the result equals that of one job.

    Args:
        parameters: see `fap_lib.runs.parameters.ShardRun`.

    Returns:
        The run's manifest.

    Raises:
        KitError: a wrong parameter, more shards than batches, or what `data.features.features` refuses.
    """
    config = ShardRun.parse(parameters)
    profile = load_profile(config.profile, config.settings)
    device = device_name(config.device)
    manifest = read_manifest(paths.dataset(config.data))
    backbone = load_backbone(profile.features.backbone, profile.features.weights)
    record = start_run(paths.run(config.run), "shard", profile, backbone, manifest, device)
    backbone.to(device, profile.features.precision)
    if config.number is None:
        cache = join_shards(manifest, config.split, backbone, profile.features, config.count)
    else:
        own = shard(manifest, config.split, config.number, config.count)
        cache = features(own, config.split, backbone, profile.features)
    return record.finish(images=len(cache), cache=cache.digest)
