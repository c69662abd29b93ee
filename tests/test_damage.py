"""Flipped bytes and cut ends: every file that carries results is read as it was written, or not at all."""

import json
import random
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fap_lib import checkpoints
from fap_lib.clip import mini
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.core.sealed import read_sealed, write_sealed
from fap_lib.core.tensors import Unsealed, read_tensors, write_tensors
from fap_lib.data.features import features
from fap_lib.data.manifest import read_manifest, write_manifest
from fap_lib.data.store import Store
from fap_lib.grids.grid import Job
from fap_lib.grids.jobs import is_done
from fap_lib.grids.snakemake import unmark_damaged
from fap_lib.inference.detector import Detector
from fap_lib.official.inspection import describe
from fap_lib.runs import record
from fap_lib.runs.marks import mark

FLIPS = 40


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def sealed(tmp_path) -> Path:
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3),
        "a": torch.tensor(3, dtype=torch.int32),
        "c": torch.ones(5, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {"step": "7"})
    return tmp_path / "x.safetensors"


def test_tensors_come_back_as_they_were(sealed):
    tensors, header = read_tensors(sealed, "x")
    assert header == {"step": "7"}
    assert torch.equal(tensors["b"], torch.arange(6.0).reshape(2, 3))
    assert tensors["a"].dtype == torch.int32
    assert tensors["empty"].shape == (0, 4)


def test_equal_content_is_an_equal_file(tmp_path):
    header = dict.fromkeys("fedcba", "ü\n")
    for number in range(5):
        write_tensors(tmp_path / f"{number}.safetensors", {"b": torch.ones(2), "a": torch.zeros(1)}, header)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert read_tensors(tmp_path / "0.safetensors", "x")[1] == header


def test_no_flipped_bit_passes(sealed):
    whole = sealed.read_bytes()
    known = read_tensors(sealed, "x")
    for place in range(len(whole)):
        flip(sealed, place, place % 8)
        # A space between the header's entries may turn into another that JSON reads alike.
        with suppress(KitError):
            tensors, header = read_tensors(sealed, "train again")
            assert header == known[1]
            assert all(torch.equal(value, known[0][name]) for name, value in tensors.items())
        sealed.write_bytes(whole)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1])
def test_no_cut_end_passes(sealed, length):
    sealed.write_bytes(sealed.read_bytes()[:length])
    with pytest.raises(KitError, match="train again"):
        read_tensors(sealed, "train again")


def test_a_file_without_digest_is_told_from_a_damaged_one(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(Unsealed, match="has no digest"):
        read_tensors(tmp_path / "x.safetensors", "x")


@pytest.mark.parametrize("path", sorted(mini.WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_what_ships_with_the_kit_is_whole(path):
    tensors, _ = read_tensors(path, "x")
    assert tensors


def test_a_checkpoint_without_digest_is_refused_and_can_be_rewritten(tmp_path):
    shipped = mini.prompts("paper")
    tensors, header = read_tensors(shipped, "x")
    old = {**json.loads(header["faprompt"]), "format": 1}
    save_file(tensors, tmp_path / "old.safetensors", metadata={"faprompt": json.dumps(old)})
    with pytest.raises(KitError, match=r"has format 1 .*`python -m fap_lib.checkpoints .*old.safetensors`"):
        checkpoints.read_header(tmp_path / "old.safetensors")
    checkpoints.seal(tmp_path / "old.safetensors")
    again, _ = read_tensors(tmp_path / "old.safetensors", "x")
    assert all(torch.equal(value, tensors[name]) for name, value in again.items())
    assert checkpoints.read_header(tmp_path / "old.safetensors") == checkpoints.read_header(shipped)


ABOUT = [
    {"model": {}, "features": {"image_size": "x"}},
    {"model": {"n_prompts": 0}},
    {"model": {"abnormal_tokens": []}},
    {"features": {"backbone": 7}},
    {"features": {"vv_blocks": -1}},
]


@pytest.mark.parametrize("changes", ABOUT)
def test_a_checkpoint_whose_settings_cannot_be(tmp_path, changes):
    tensors, header = read_tensors(mini.prompts("paper"), "x")
    told = {**json.loads(header["faprompt"]), **changes}
    write_tensors(tmp_path / "x.safetensors", tensors, {"faprompt": json.dumps(told)})
    with pytest.raises(KitError, match=r"wrong (model|feature) setting"):
        describe(tmp_path / "x.safetensors")


def test_a_flipped_byte_in_a_checkpoints_header_is_noticed_before_it_is_believed(tmp_path):
    """As where an entry's name changes, and its default would stand in for it."""
    path = tmp_path / "x.safetensors"
    content = mini.prompts("paper").read_bytes()
    assert content.count(b"n_prompts") == 1
    path.write_bytes(content.replace(b"n_prompts", b"n_prompt_"))
    with pytest.raises(KitError, match="its content is not what its digest says"):
        checkpoints.read_header(path)


def test_what_a_checkpoint_says_moves_no_terminal(tmp_path):
    tensors, header = read_tensors(mini.prompts("paper"), "x")
    about = {"a\nb": "\x1b]0;x\x07", "c": "x" * 9999}
    told = {**json.loads(header["faprompt"]), "kit": "\x1b[2J", "about": about}
    write_tensors(tmp_path / "x.safetensors", tensors, {"faprompt": json.dumps(told)})
    said = describe(tmp_path / "x.safetensors")
    assert all(text.isprintable() and len(text) < 900 for text in said.values())


@pytest.mark.parametrize("threshold", ["x", 3, {"score": {}}, {"score": {"threshold": "0.5"}, "map": None}])
def test_a_detector_whose_threshold_is_nonsense(tmp_path, threshold):
    tensors, header = read_tensors(mini.prompts("paper"), "x")
    told = {**json.loads(header["faprompt"]), "about": {"threshold": threshold}}
    write_tensors(tmp_path / "x.safetensors", tensors, {"faprompt": json.dumps(told)})
    with pytest.raises(KitError, match="is not a detector's file, or is damaged"):
        Detector.load(tmp_path / "x.safetensors", device="cpu")


HEADERS = ["", "[]", "3", "null", "{}", '{"format": 2}', '{"format": [], "kit": {}}', "[" * 9999, "{" * 99]


@pytest.mark.parametrize("text", HEADERS)
def test_a_checkpoint_whose_header_is_nonsense(tmp_path, text):
    write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {"faprompt": text})
    with pytest.raises(KitError) as caught:
        checkpoints.read_header(tmp_path / "x.safetensors")
    assert len(str(caught.value)) < 900


@pytest.mark.parametrize("name", ["image", "patches", "masks", "rows"])
def test_a_cache_is_rebuilt_whatever_the_damage(dataset, backbone, small, name):
    cache = features(dataset, "test", backbone, small)
    whole, labels = np.array(cache.patches), len(cache)
    path = next(Path(small_).parent for small_ in [cache.patches.filename]) / f"{name}.npy"
    content = path.read_bytes()
    # Where a header becomes another kind of file: an archive, a pickle, a folder.
    damages = [b"", b"PK\x03\x04" + content, b"\x80\x05" + content, content[:20], content.replace(b"<", b"'")]
    store = Store(path.parent, labels, 25, backbone.patch_width, 70)
    for damage in damages:
        path.write_bytes(damage)
        assert len(store.stale([(0, 0, 0, 0)] * labels)) == labels
        store.allocate()
    path.unlink()
    path.mkdir()
    (path / "x").touch()
    assert np.array_equal(features(dataset, "test", backbone, small).patches, whole)


def test_flips_in_the_headers_of_a_cache_never_end_in_a_traceback(dataset, backbone, small):
    cache = features(dataset, "test", backbone, small)
    folder = Path(cache.patches.filename).parent
    store = Store(folder, len(cache), 25, backbone.patch_width, 70)
    contents = {path: path.read_bytes() for path in folder.glob("*.npy")}
    chance = random.Random(0)
    for _ in range(FLIPS):
        path = chance.choice(sorted(contents))
        flip(path, chance.randrange(128), chance.randrange(8))
        store.stale([(0, 0, 0, 0)] * len(cache))
        for other, content in contents.items():
            other.write_bytes(content)


def test_a_changed_label_mask_rule_or_name_is_noticed(dataset):
    write_manifest(dataset, {"title": "t"})
    meta, about = dataset.root / "meta.json", dataset.root / "dataset.json"
    for path, was, now in (
        (meta, '"anomaly": 1', '"anomaly": 0'),
        (meta, '"mask_path": "', '"mask_path": "x'),
        (meta, '"specie_name": "good"', '"specie_name": "Good"'),
        (about, '"nonzero"', '"half"'),
        (about, f'"{dataset.name}"', '"other"'),
    ):
        text = path.read_text()
        assert was in text
        path.write_text(text.replace(was, now, 1))
        with pytest.raises(KitError, match="has changed since the dataset was prepared"):
            read_manifest(dataset.root)
        path.write_text(text)
    assert read_manifest(dataset.root).splits["test"] == dataset.splits["test"]


def test_no_flipped_bit_of_a_record_passes(tmp_path):
    path = tmp_path / "job.json"
    content = {"job": "0" * 9, "seconds": 1.25, "name": "Prüfung", "digest of": [True, None, {"a": 1e-7}]}
    write_sealed(path, content)
    whole = path.read_bytes()
    assert read_sealed(path, "record", "x") == content
    for place in range(len(whole)):
        for bit in range(8):
            flip(path, place, bit)
            with suppress(KitError):  # white space may turn into other white space
                assert read_sealed(path, "record", "x") == content
            path.write_bytes(whole)
    path.write_text('{"job": "older kits wrote no digest"}')
    with pytest.raises(KitError, match=r"the record .*job.json has changed .*; run it again"):
        read_sealed(path, "record", "run it again")


def test_what_a_grid_finished_is_run_again_if_its_mark_or_a_result_is_damaged(tmp_path):
    jobs = [Job(name, "features", "", {}) for name in ("kept", "mark", "result", "other")]
    for job in jobs:
        write_sealed(tmp_path / "jobs" / f"{job.name}.json", asdict(job))
        (tmp_path / job.name).mkdir()
        (tmp_path / job.name / "table.csv").write_text("a")
        record.Run(tmp_path / job.name, "features", {}).finish()
        mark(tmp_path / job.name, sha256(tmp_path / "jobs" / f"{job.name}.json"), 1)
    flip(tmp_path / "mark" / "done.json", 30)
    flip(tmp_path / "result" / "table.csv", 0)
    write_sealed(tmp_path / "jobs" / "other.json", {"changed": True})  # Snakemake sees its time
    assert [is_done(tmp_path, job.name) for job in jobs] == [True, False, True, False]
    unmark_damaged(jobs, tmp_path)
    assert [(tmp_path / job.name / "done.json").exists() for job in jobs] == [True, False, False, True]


def test_a_record_names_its_results_and_notices_their_change(tmp_path):
    (tmp_path / "metrics.json").write_text('{"label": "x", "metrics": []}')
    (tmp_path / "patch_maps.npy").write_bytes(b"maps")
    record.Run(tmp_path, "evaluation", {"seed": 1}).finish(images=3)
    assert record.read_run(tmp_path)["images"] == 3
    assert record.result(tmp_path, "patch_maps.npy") == tmp_path / "patch_maps.npy"
    assert record.is_whole(tmp_path)
    flip(tmp_path / "patch_maps.npy", 2)
    with pytest.raises(KitError, match=r"patch_maps.npy has changed since its run"):
        record.result(tmp_path, "patch_maps.npy")
    assert not record.is_whole(tmp_path)
    run = tmp_path / "run.json"
    run.write_text(run.read_text().replace('"images": 3', '"images": 4'))
    with pytest.raises(KitError, match=r"run.json has changed since it was written"):
        record.read_run(tmp_path)
