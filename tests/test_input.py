"""Bad manifests, images, folders and disks: one sentence each, and nothing half written."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, Resize

from data_prep.own import own
from fap_lib.cli import main
from fap_lib.core import files, paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic, write_json, write_text
from fap_lib.data.images import load_image, load_mask, open_image, rgb
from fap_lib.data.manifest import read_manifest, write_manifest

ENTRY = {"img_path": "a.png", "mask_path": "", "cls_name": "c", "specie_name": "good", "anomaly": 0}


def manifest(tmp_path: Path, content) -> Path:
    (tmp_path / "meta.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path


def test_resizing_as_stored_is_the_official_order():
    """torchvision's Resize, then the conversion to RGB (`utils.py:get_transform`)."""
    random = np.random.default_rng(0)
    colours = Image.fromarray(random.integers(0, 255, (40, 30, 3), dtype=np.uint8))
    see_through = colours.copy()
    see_through.putalpha(Image.fromarray(random.integers(0, 255, (40, 30), dtype=np.uint8)))
    for image in (colours, colours.convert("L"), colours.quantize(9), colours.convert("1"), see_through):
        official = Resize((16, 16), InterpolationMode.BICUBIC)(image).convert("RGB")
        assert np.array_equal(rgb(image, 16, stored=True), np.asarray(official)), image.mode
        same = np.array_equal(rgb(image, 16), np.asarray(official))
        assert same == (image.mode in ("RGB", "L")), image.mode


def test_a_manifest_survives_a_round_trip(dataset):
    again = read_manifest(dataset.root)
    assert again.name == "toy-aux"
    assert again.splits["test"] == dataset.splits["test"]
    with pytest.raises(KitError, match="has no images in its train split"):
        again.records("train")


def test_a_users_manifest_is_read_as_the_official_loader_reads_it(tmp_path):
    entry = {**ENTRY, "mask_path": "m.png", "specie_name": "hole", "anomaly": 1, "cls_name": "thing"}
    found = read_manifest(manifest(tmp_path, {"test": {"any name at all": [ENTRY, entry]}}))
    assert found.mask_rule == "nonzero"
    assert found.name == tmp_path.name
    assert [record.category for record in found.records("test")] == ["any name at all"] * 2
    assert found.records("test")[1].mask == "m.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ([], "must be an object with the keys 'train' and 'test'"),
        ({"val": {}}, "must be an object with the keys 'train' and 'test'"),
        ({"Test": {}, "test": {}}, "has the part 'test' twice, in other cases"),
        ({"test": []}, "must map each category to a list"),
        ({"test": {"c": {}}}, "'test' / 'c' must be a list"),
        ({"test": {"c": ["a.png"]}}, "entry 0: must be an object"),
        ({"test": {"c": [{"img_path": "a.png"}]}}, "entry 0: the key 'anomaly' is missing"),
        ({"test": {"c": [{**ENTRY, "anomaly": "1"}]}}, "'anomaly' must be 0, 1 or null, found '1'"),
        ({"test": {"c": [{**ENTRY, "anomaly": 0.5}]}}, "'anomaly' must be 0, 1 or null, found 0.5"),
        ({"test": {"c": [ENTRY, {**ENTRY, "img_path": 3}]}}, "entry 1: 'img_path' must be a file path"),
        ({"test": {"c": [{**ENTRY, "mask_path": 3}]}}, "'mask_path' must be a file path or empty"),
    ],
)
def test_a_malformed_manifest_is_named(tmp_path, content, message):
    with pytest.raises(KitError) as caught:
        read_manifest(manifest(tmp_path, content))
    assert message in str(caught.value)
    assert "meta.json" in str(caught.value)


def test_what_nobody_uses_of_a_users_manifest_is_not_refused(tmp_path):
    """A placeholder in `train`, other cases, other parts, labels that are true or 1.0: all were published."""
    hole = {**ENTRY, "img_path": "b.png", "anomaly": True}
    content = {"Train": {"c": [{**ENTRY, "img_path": ""}]}, "Test": {"c": [ENTRY, hole]}, "val": [1]}
    found = read_manifest(manifest(tmp_path, content))
    assert [record.label for record in found.records("test")] == [0, 1]
    assert found.notes == ("the part 'val' of meta.json is not used",)
    with pytest.raises(KitError, match=r"'train' / 'c', entry 0: 'img_path' must be a file path .* found ''"):
        found.records("train")
    assert (
        read_manifest(manifest(tmp_path, {"test": {"c": [{**ENTRY, "anomaly": 1.0}]}}))
        .records("test")[0]
        .label
    )


def edited(change) -> str:
    """Why a prepared dataset is refused after a change of its meta.json's entries."""
    path = paths.data() / "x" / "meta.json"
    content = json.loads(path.read_text())
    change(content["test"]["x"])
    path.write_text(json.dumps(content))
    with pytest.raises(KitError) as caught:
        read_manifest(path.parent)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[1].update(mask_path=""), "says of raw/hole/b.png that its mask is None, and manifest"),
        (lambda e: e[0].update(anomaly=1), "says of raw/good/a.png that its label is 1, and manifest.jsonl"),
        (
            lambda e: e[1].update(specie_name="dent"),
            "that its defect is 'dent', and manifest.jsonl that it is",
        ),
        (lambda e: e.pop(), "lacks raw/hole/b.png, which manifest.jsonl lists"),
        (lambda e: e.append({**e[0], "img_path": "raw/c.png"}), "lists raw/c.png, which manifest.jsonl does"),
    ],
)
def test_a_prepared_manifest_that_was_edited_is_noticed(tmp_path, change, message):
    for name in ("good/a.png", "hole/b.png", "masks/hole/b.png"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), 255).save(tmp_path / "x" / name)
    own(tmp_path / "x")
    said = edited(change)
    assert message in said
    assert "prepare the dataset again, or, if the change is meant, remove manifest.jsonl" in said


def test_a_missing_manifest_says_what_to_do(tmp_path):
    with pytest.raises(KitError, match="prepare the dataset with"):
        read_manifest(tmp_path / "nowhere")


def test_an_unknown_mask_rule_is_refused(tmp_path):
    manifest(tmp_path, {"test": {"c": [ENTRY]}})
    (tmp_path / "dataset.json").write_text('{"mask_rule": "above"}')
    with pytest.raises(KitError, match="known rules: nonzero, half"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "not an image"), (b"%PDF-1.4 no image", "not an image")],
)
def test_a_file_that_is_no_image(tmp_path, content, message):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KitError, match=message):
        open_image(path)


def test_a_huge_image_is_refused(tmp_path, monkeypatch):
    Image.new("L", (200, 200)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(KitError, match="too many pixels"):
        open_image(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("L", (8, 6), 128)
    if mode == "I;16":
        image = Image.fromarray(np.full((6, 8), 128 << 8, dtype=np.uint16))
    elif mode == "LA":
        image.putalpha(255)
    else:
        image = image.convert(mode)
    pixels = rgb(image, 4)
    assert pixels.shape == (4, 4, 3)
    assert abs(int(pixels.mean()) - 128) <= 2 or mode == "1"


def test_the_content_decides_and_not_the_suffix(tmp_path):
    Image.new("RGB", (20, 10), (10, 200, 30)).save(tmp_path / "photo.jpg", format="PNG")
    assert load_image(tmp_path / "photo.jpg", 5)[2, 2].tolist() == [10, 200, 30]


def test_mask_rules(tmp_path):
    grey = np.zeros((10, 10), dtype=np.uint8)
    grey[:, 5:] = 255
    grey[:, :2] = 3  # what JPEG leaves
    Image.fromarray(grey).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", "half", (10, 10), 10).sum() == 50
    assert load_mask(tmp_path / "m.png", "nonzero", (10, 10), 10).sum() == 70


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no permission to write"),
        (errno.EROFS, "read-only"),
    ],
)
def test_a_disk_that_refuses_leaves_the_old_file(tmp_path, monkeypatch, code, message):
    path = tmp_path / "f.json"
    write_json(path, {"old": 1})

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(KitError, match=message):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f.txt"
    write_text(path, "old")

    def write_and_stop():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_a_written_file_has_ordinary_permissions(tmp_path):
    write_text(tmp_path / "kit", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "kit").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_manifest_is_written_whole(dataset):
    write_manifest(dataset, {"title": "t"})
    assert json.loads((dataset.root / "dataset.json").read_text())["title"] == "t"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "--data", "nowhere", "--train", "a", "--test", "b"], "there is no folder"),
        (["reproduce", "--data", ".", "--train", "a", "--test", " , "], "no test dataset was named"),
        (
            ["reproduce", "--data", ".", "--train", "a", "--test", "b", "--profile", "x"],
            "unknown profile 'x'",
        ),
        (["reproduce", "--data", ".", "--train", "elvp", "--test", "b"], "nearest known one is 'elpv'"),
        (["data", "show", "kvsir"], "nearest known one is 'kvasir'"),
        (["data", "prepare", "elpv", "--from", "/nowhere"], "there is no file or folder /nowhere"),
        (["weights", "ViT-B-33"], "unknown backbone"),
    ],
)
def test_the_command_says_one_sentence_and_exits_with_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_what_an_entry_says_is_what_a_record_holds(tmp_path):
    entries = [
        {**ENTRY, "mask_path": "m.png"},
        {**ENTRY, "anomaly": True, "specie_name": ""},
        {**ENTRY, "anomaly": None},
    ]
    made = read_manifest(manifest(tmp_path, {"test": {"c": entries}}))
    said = [(None, 0, "good"), (None, 1, "defect"), (None, None, "good")]
    assert [(record.mask, record.label, record.defect) for record in made.records("test")] == said
    write_manifest(replace(made, name="another"), {})
    again = read_manifest(tmp_path)
    assert again.name == "another"
    assert again.splits["test"] == made.splits["test"]
    (tmp_path / "meta.json").write_text((tmp_path / "meta.json").read_text().replace("a.png", "b.png"))
    with pytest.raises(KitError, match="has changed since the dataset was prepared"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("wrong", [{"anomaly": 2}, {"img_path": "../a.png"}, {"mask_path": "/m.png"}])
def test_an_entry_out_of_range_is_refused(tmp_path, wrong):
    with pytest.raises(KitError, match=rf"'{next(iter(wrong))}' must be"):
        read_manifest(manifest(tmp_path, {"test": {"c": [{**ENTRY, **wrong}]}}))
