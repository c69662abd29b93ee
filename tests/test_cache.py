"""A cache is trusted only while its inputs and its bytes are unchanged."""

import hashlib
import inspect
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from PIL import Image

from fap_lib.clip import image_tower
from fap_lib.clip.backbone import TINY, load_backbone
from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.data import encoding
from fap_lib.data import features as cache_module
from fap_lib.data.encoding import load_pair
from fap_lib.data.features import COMPLETE, features, join_shards, shard
from fap_lib.data.images import load_mask
from fap_lib.data.manifest import read_manifest


@pytest.fixture
def counted(monkeypatch):
    """How many images pass the image tower."""
    count = []
    original = cache_module.encode

    def encode(backbone, tower, images):
        count.append(len(images))
        return original(backbone, tower, images)

    monkeypatch.setattr(cache_module, "encode", encode)
    return count


def folder() -> Path:
    (found,) = paths.cache().iterdir()
    return found


def test_features_are_the_towers_and_each_image_passes_once(dataset, backbone, small, counted):
    cache = features(dataset, "test", backbone, small)
    assert sum(counted) == len(cache) == 16
    pixels, mask = load_pair(dataset, dataset.records("test")[1], 70)
    raw = backbone.image_tower(70, 2)(backbone.normalise(pixels[None]))
    image, patches = cache.features(np.array([1]))
    expected = torch.nn.functional.normalize(raw.tokens[0, 1:], dim=-1)
    assert torch.allclose(patches[0], expected, atol=1e-3)
    assert torch.allclose(image.norm(dim=-1), torch.ones(1), atol=1e-3)
    assert np.array_equal(cache.masks(np.array([1]))[0].numpy(), mask)
    assert mask.any()
    features(dataset, "test", backbone, small)
    assert sum(counted) == 16


def test_masks_resize_as_the_official_loader(dataset):
    record = next(record for record in dataset.records("test") if record.mask)
    path = dataset.root / record.mask
    found = load_mask(path, "nonzero", (98, 98), 70)
    grey = Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255)
    expected = np.asarray(grey.resize((70, 70), Image.Resampling.BILINEAR)) / 255 > 0.5
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["image.npy", "patches.npy", "masks.npy", "rows.npy"])
def test_one_damaged_byte_costs_one_batch_and_leaves_no_trace(dataset, backbone, small, counted, name):
    features(dataset, "test", backbone, small)
    path = folder() / name
    before = {item: item.read_bytes() for item in path.parent.glob("*.npy")}
    content = bytearray(before[path])
    content[-1] ^= 1
    path.write_bytes(content)
    counted.clear()
    features(dataset, "test", backbone, small)
    assert sum(counted) == 8
    assert {item: item.read_bytes() for item in before} == before


@pytest.mark.parametrize("name", ["image.npy", "patches.npy", "masks.npy", "rows.npy"])
@pytest.mark.parametrize("damage", ["truncated", "deleted", "garbage"])
def test_a_damaged_file_is_rebuilt(dataset, backbone, small, counted, name, damage):
    features(dataset, "test", backbone, small)
    path = folder() / name
    if damage == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"not an array")
    counted.clear()
    features(dataset, "test", backbone, small)
    assert sum(counted) == 16


def test_a_changed_image_or_mask_is_noticed(dataset, backbone, small, counted):
    old = features(dataset, "test", backbone, small).patches[1].copy()
    record = dataset.records("test")[1]
    image = Image.open(dataset.root / record.image).transpose(Image.Transpose.ROTATE_180)
    image.save(dataset.root / record.image)
    counted.clear()
    new = features(dataset, "test", backbone, small)
    assert counted == [8]
    assert not np.allclose(new.patches[1], old)

    mask = Image.new("L", (98, 98), 255)
    mask.save(dataset.root / record.mask)
    assert bool(features(dataset, "test", backbone, small).masks(np.array([1])).all())


def test_an_images_seed_is_of_its_own_path(dataset, backbone, small):
    cache = features(dataset, "test", backbone, small)
    digests = [hashlib.sha256(cache.records[i].image.encode()).digest() for i in (5, 0)]
    assert cache.seeds(np.array([5, 0])) == [int.from_bytes(digest[:8], "big") for digest in digests]


@pytest.mark.parametrize(
    "change", [{"image_size": 98}, {"vv_blocks": 1}, {"class_norm": True}, {"stored_resize": True}]
)
def test_every_setting_has_its_own_cache(dataset, backbone, small, change):
    first = features(dataset, "test", backbone, small)
    other = features(dataset, "test", backbone, small.model_copy(update=change))
    assert first.digest != other.digest
    assert len(list(paths.cache().iterdir())) == 2


def test_a_precision_has_its_own_cache_and_is_the_one_the_tower_runs_in(dataset, backbone, small):
    low = small.model_copy(update={"precision": "bfloat16"})
    with pytest.raises(KitError, match=r"in bfloat16, but the image tower of .* is in float32"):
        features(dataset, "test", backbone, low)
    first = features(dataset, "test", backbone, small)
    other = features(dataset, "test", load_backbone(TINY).to("cpu", "bfloat16"), low)
    assert first.digest != other.digest
    assert not np.array_equal(first.patches, other.patches)
    with pytest.raises(KitError, match=r"in float32, but the image tower of .* is in bfloat16"):
        features(dataset, "test", load_backbone(TINY).to("cpu", "bfloat16"), small)


def test_other_code_has_another_cache_but_other_words_have_not(dataset, backbone, small, monkeypatch):
    first = features(dataset, "test", backbone, small).digest
    now = encoding.code()
    source = inspect.getsource

    def digest_after(old: str, new: str) -> str:
        assert old in source(image_tower)
        monkeypatch.setattr(inspect, "getsource", lambda part: source(part).replace(old, new))
        encoding.code.cache_clear()
        return encoding.code()

    assert digest_after("resized bilinearly", "resized") == now
    assert digest_after('mode="bilinear"', 'mode="bicubic"') != now
    assert features(dataset, "test", backbone, small).digest != first
    encoding.code.cache_clear()


def test_other_weights_another_mask_rule_and_a_copy_elsewhere_have_their_own_caches(
    dataset, backbone, small, tmp_path
):
    """A copy has the same names, sizes and times, and perhaps other pixels."""
    other = load_backbone(TINY)
    other.clip.visual.proj.data += 1e-3
    other = replace(other)  # its hash is of these weights
    shutil.copytree(dataset.root, tmp_path / "copy" / "toy-aux")
    copy = read_manifest(tmp_path / "copy" / "toy-aux")
    found = [
        features(manifest, "test", clip, small).digest
        for manifest, clip in (
            *((dataset, backbone), (dataset, other), (copy, backbone)),
            (replace(dataset, mask_rule="half"), backbone),
        )
    ]
    assert len(set(found)) == 4


def test_an_interrupted_extraction_keeps_what_it_has(dataset, backbone, small, monkeypatch):
    encoded = []
    original = cache_module.encode

    def interrupted(backbone_, tower, images):
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(images))
        return original(backbone_, tower, images)

    monkeypatch.setattr(cache_module, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features(dataset, "test", backbone, small, batch_size=4)
    assert not (folder() / COMPLETE).exists()

    rest = []
    monkeypatch.setattr(
        cache_module, "encode", lambda b, t, images: (rest.append(len(images)), original(b, t, images))[1]
    )
    features(dataset, "test", backbone, small, batch_size=4)
    assert sum(rest) == 8
    assert (folder() / COMPLETE).exists()


def test_two_at_once_do_the_work_once(dataset, backbone, small, counted):
    threads = [threading.Thread(target=features, args=(dataset, "test", backbone, small)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == 16


def test_a_missing_image_or_mask_is_named(dataset, backbone, small):
    record = dataset.records("test")[1]
    (dataset.root / record.mask).unlink()
    with pytest.raises(KitError, match=f"the mask .*{Path(record.mask).name} is listed in the manifest"):
        features(dataset, "test", backbone, small)
    (dataset.root / record.image).unlink()
    with pytest.raises(KitError, match=f"the image .*{Path(record.image).name} is listed in the manifest"):
        features(dataset, "test", backbone, small)


def test_a_truncated_image_is_named_and_the_rest_is_kept(dataset, backbone, small, counted):
    path = dataset.root / dataset.records("test")[9].image
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KitError, match=r"cannot be decoded .* truncated"):
        features(dataset, "test", backbone, small, batch_size=4)
    path.write_bytes(whole)
    done = sum(counted)
    assert done >= 8
    counted.clear()
    features(dataset, "test", backbone, small, batch_size=4)
    assert sum(counted) == 16 - done


def test_a_mask_of_another_size_is_refused(dataset, backbone, small):
    record = dataset.records("test")[1]
    Image.new("L", (50, 98)).save(dataset.root / record.mask)
    with pytest.raises(KitError, match="is 50x98 pixels but its image is 98x98"):
        features(dataset, "test", backbone, small)


def test_features_that_are_not_finite_are_refused(dataset, backbone, small, monkeypatch):
    monkeypatch.setattr(
        type(backbone), "normalise", lambda _, images: torch.full((len(images), 3, 70, 70), torch.nan)
    )
    with pytest.raises(KitError, match="set precision to float32 or bfloat16"):
        features(dataset, "test", backbone, small)


def test_gpu_out_of_memory_suggests_a_batch(dataset, backbone, small, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(backbone), "normalise", full)
    with pytest.raises(KitError, match="set the feature batch size to 4"):
        features(dataset, "test", backbone, small)


def test_a_disk_without_room_is_said_before_the_work(dataset, backbone, small, monkeypatch, counted):
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: type("U", (), {"free": 10})())
    with pytest.raises(KitError, match="GB are free; free some space"):
        features(dataset, "test", backbone, small)
    assert counted == []


@pytest.mark.parametrize("count", [2, 3])
def test_shards_joined_are_the_whole_bit_for_bit(tmp_path, backbone, small, monkeypatch, count):
    manifest = toy.write(tmp_path / "toy-aux", "toy-aux", each=6)
    whole = features(manifest, "test", backbone, small)
    image, patches, masks = whole.image.copy(), whole.patches.copy(), whole.masks(np.arange(24))

    monkeypatch.setenv("FAP_HOME", str(tmp_path / "elsewhere"))
    sizes = [
        len(features(shard(manifest, "test", number, count), "test", backbone, small))
        for number in range(count)
    ]
    assert sum(sizes) == 24
    assert all(size % 8 == 0 for size in sizes)
    monkeypatch.setattr("fap_lib.data.features.encode", None)  # joining encodes nothing
    joined = join_shards(manifest, "test", backbone, small, count)
    assert joined.digest == whole.digest
    assert np.array_equal(joined.image, image)
    assert np.array_equal(joined.patches, patches)
    assert torch.equal(joined.masks(np.arange(24)), masks)
    folders = [path.name for path in (tmp_path / "elsewhere" / "cache").iterdir()]
    assert folders == [whole.digest], "the shards' own caches are gone"


def test_a_lost_or_damaged_shard_is_made_again(tmp_path, backbone, small, monkeypatch):
    manifest = toy.write(tmp_path / "toy-aux", "toy-aux", each=6)
    patches = features(manifest, "test", backbone, small).patches.copy()
    monkeypatch.setenv("FAP_HOME", str(tmp_path / "elsewhere"))
    folder = paths.cache()
    features(shard(manifest, "test", 1, 3), "test", backbone, small)
    (own,) = folder.iterdir()
    rows = np.load(own / "patches.npy", mmap_mode="r+")
    rows[2] += 1
    rows.flush()
    assert np.array_equal(join_shards(manifest, "test", backbone, small, 3).patches, patches)


def test_more_shards_than_batches_are_refused(dataset):
    with pytest.raises(KitError, match="is 2 batches of 8; it cannot be cut into 3 shards"):
        shard(dataset, "test", 0, 3)


@pytest.mark.timeout(120)  # a wait for the lock would never end
def test_a_process_left_over_from_an_error_does_not_hold_the_cache(dataset, backbone, small, monkeypatch):
    left: list[int] = []

    def fails(*_):
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        left.append(child)
        raise KitError("an image is damaged")

    monkeypatch.setattr(cache_module, "_fill", fails)
    with pytest.raises(KitError, match="damaged"):
        features(dataset, "test", backbone, small)
    monkeypatch.undo()
    try:
        assert len(features(dataset, "test", backbone, small)) == 16
    finally:
        os.kill(left[0], signal.SIGKILL)
        os.waitpid(left[0], 0)
