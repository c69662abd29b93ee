"""Preparation of the 19 datasets: on trees of their exact raw layout, and on real files where they are."""

import functools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_layouts import RAW, Found, image, mask, text
from sklearn.model_selection import train_test_split

from data_prep.check import check
from data_prep.layouts import held_out
from data_prep.locate import raw_root
from data_prep.prepare import prepare
from data_prep.registry import DATASETS, find
from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import read_lines, sha256
from fap_lib.data.images import load_mask, open_image, rgb
from fap_lib.data.manifest import Manifest, read_manifest

REAL = Path(os.environ.get("FAP_SHARED", paths.REPOSITORY.parent / "shared")) / "real"

every = pytest.mark.parametrize("name", DATASETS)


def found(manifest: Manifest) -> dict[str, tuple[int, int]]:
    """Normal and anomalous test images per category."""
    counts = Counter((record.category, record.label) for record in manifest.records("test"))
    return {category: (counts[category, 0], counts[category, 1]) for category, _ in counts}


# The registry


def test_the_registry_has_the_papers_19_datasets_with_all_facts():
    assert list(DATASETS) == list(RAW)
    for entry in DATASETS.values():
        for fact in ("paper", "shows", "loader", "source", "terms", "citation", "by_hand", "raw", "protocol"):
            assert getattr(entry, fact), (entry.name, fact)
        assert (entry.layout is None) != (entry.cut is None)
        stated = [counts for counts in entry.counts.values() if counts]
        if len(stated) == len(entry.counts):
            assert tuple(map(sum, zip(*stated, strict=True))) == entry.total
        assert all(len(archive.sha256) == 64 for archive in entry.archives if archive.sha256)


def test_expected_counts_are_the_protocols():
    totals = {name: entry.total for name, entry in DATASETS.items()}
    assert totals["mvtec"] == (467, 1258)
    assert totals["sdd"] == (286, 54)
    assert totals["dagm"] == (6996, 1054)
    without_masks = {name for name, entry in DATASETS.items() if not entry.masks}
    assert without_masks == {"elpv", "headct", "brainmri", "br35h", "lag"}
    pixel_only = {name for name, entry in DATASETS.items() if entry.metrics == "pixel only"}
    assert pixel_only == {"colondb", "clinicdb", "kvasir", "endo", "isic", "tn3k"}


@pytest.mark.parametrize("count", [2, 9, 1143, 1508, 2256])
def test_the_tested_quarter_is_the_official_converters(count):
    drawn = train_test_split(range(count), test_size=0.25, random_state=42)[1]
    assert held_out(count) == set(drawn)


def test_lag_is_fetched_from_nowhere_and_the_other_sdd_split_is_explained():
    lag = find("lag")
    assert [lag.kaggle, lag.drive, *(archive.address for archive in lag.archives)] == ["", "", None]
    assert "forbidden" in lag.terms
    assert "181 normal and 74 anomalous" in find("SDD").notes


def test_a_dataset_is_found_by_all_its_names():
    for entry in DATASETS.values():
        assert find(entry.name.upper()) is find(entry.paper) is entry
        if entry.loader != "colon":
            assert find(entry.loader) is entry
    with pytest.raises(KitError, match=r"unknown dataset 'colon'; .*'colondb'"):
        find("colon")  # four datasets


def test_list_and_show_print_every_dataset(capsys):
    assert main(["data", "list"]) == 0
    shown = capsys.readouterr().out
    for name, entry in DATASETS.items():
        assert f"\n{name} " in shown
        assert main(["data", "show", name]) == 0
        about = capsys.readouterr().out
        assert all(fact in about for fact in (entry.terms, entry.citation, entry.source, entry.protocol))
        assert all(category in about for category in entry.categories)


# The 19 raw layouts


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Callable[[str], Path]:
    """The raw download of a dataset, drawn once; not to be changed."""

    @functools.cache
    def tree(name: str) -> Path:
        folder = tmp_path_factory.mktemp("raw") / name
        EXPECTED[name] = RAW[name](folder)
        return folder

    return tree


EXPECTED: dict[str, Found] = {}


@every
def test_every_raw_layout_is_prepared_and_checked(name, raw):
    source = raw(name)
    manifest, expected, entry = prepare(name, source), EXPECTED[name], DATASETS[name]
    assert found(manifest) == expected.test
    assert set(expected.test) <= set(entry.categories)
    assert len(manifest.splits["train"]) == expected.train
    for record in manifest.records("test"):
        assert (record.mask is not None) == (entry.masks and record.label == 1)
        picture = open_image(manifest.root / record.image)
        assert rgb(picture, 8).shape == (8, 8, 3)
        if record.mask:
            assert load_mask(manifest.root / record.mask, manifest.mask_rule, picture.size, 64).any()
    manifests_agree(manifest.root)
    assert (manifest.root / "raw").is_symlink() == (entry.cut is None)
    about = json.loads((manifest.root / "dataset.json").read_text())
    assert about["terms"] == entry.terms
    assert about["as_expected"] is False, "a tiny tree has not the protocol's counts"
    report = check(manifest)
    assert report.problems == []
    assert {row.what for row in report.rows if row.differs} >= {"all test images, anomalous"}


def manifests_agree(root: Path) -> None:
    """`meta.json` has the official loader's keys, `manifest.jsonl` the same images and what they are."""
    meta = json.loads((root / "meta.json").read_text())
    assert set(meta) == {"train", "test"}
    entries = [entry for split in meta.values() for category in split.values() for entry in category]
    lines = read_lines(root / "manifest.jsonl", "details")
    assert [line["image"] for line in lines] == [entry["img_path"] for entry in entries]
    for line, entry in zip(lines, entries, strict=True):
        assert set(entry) == {"img_path", "mask_path", "cls_name", "specie_name", "anomaly"}
        assert (line["mask"] or "") == entry["mask_path"]
        assert line["sha256"] == sha256(root / entry["img_path"])
        with Image.open(root / entry["img_path"]) as picture:
            assert (line["width"], line["height"]) == picture.size
        assert line["mask"] is None or line["anomalous_pixels"] > 0


@every
def test_the_order_of_the_file_system_does_not_matter(name, raw, tmp_path, monkeypatch):
    entry = DATASETS[name]

    def splits(number: int):
        root = raw_root(entry, raw(name))
        if entry.cut:
            return entry.cut(root, entry.categories, tmp_path / str(number))
        return entry.layout(root, entry.categories)

    before, listed = splits(1), Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    assert splits(2) == before


@every
def test_doubled_and_renamed_folders_are_entered(name, raw, tmp_path):
    (tmp_path / "mes données" / "mes données").mkdir(parents=True)
    (tmp_path / "mes données" / "mes données" / "x").symlink_to(raw(name))
    entry = DATASETS[name]
    assert raw_root(entry, tmp_path).resolve() == raw_root(entry, raw(name))
    alone = shutil.copytree(raw_root(entry, raw(name)), tmp_path / "alone")
    assert raw_root(entry, alone) == alone


def test_all_19_in_one_folder_are_told_apart(raw, tmp_path):
    for name in DATASETS:
        (tmp_path / name).symlink_to(raw(name))
    for name, entry in DATASETS.items():
        inside = raw_root(entry, tmp_path).relative_to(tmp_path).parts
        # The zip of the polyp sets holds three of them.
        assert inside[0] == name or (
            inside[0] == "colondb" and {"clinicdb": "CVC-ClinicDB", "kvasir": "Kvasir"}[name] == inside[-1]
        )


def test_one_dataset_is_not_taken_for_another(raw, tmp_path):
    with pytest.raises(KitError, match="does not hold the raw download of clinicdb"):
        prepare("clinicdb", raw("colondb") / "Polyp DataSet" / "CVC-ColonDB")
    with pytest.raises(KitError, match="does not hold the raw download of brainmri"):
        prepare("brainmri", raw("br35h"))
    with pytest.raises(KitError, match="does not hold the raw download of mvtec"):
        prepare("mvtec", tmp_path)


def test_a_prepared_dataset_is_no_download(raw, tmp_path):
    prepare("sdd", raw("sdd"), tmp_path / "prepared" / "sdd")
    with pytest.raises(KitError, match="does not hold the raw download of sdd"):
        prepare("sdd", tmp_path / "prepared")


# Traps


def test_sdd_thirds_join_to_the_image_and_its_label(raw):
    manifest = prepare("sdd", raw("sdd"))
    anomalous = [record for record in manifest.records("test") if record.label]
    assert [Path(record.image).name for record in anomalous] == [
        "kos01_Part1_1.png",
        "kos10_Part0_0.png",
        "kos10_Part0_1.png",
    ]
    thirds = {
        Path(r.image).stem: np.asarray(open_image(manifest.root / r.image))
        for split in manifest.splits.values()
        for r in split
    }
    whole = np.asarray(open_image(raw("sdd") / "KolektorSDD" / "kos10" / "Part0.jpg"))
    assert np.array_equal(np.concatenate([thirds[f"kos10_Part0_{n}"] for n in range(3)]), whole)
    assert [len(thirds[f"kos10_Part0_{n}"]) for n in range(3)] == [411, 412, 412]
    label = np.asarray(open_image(raw("sdd") / "KolektorSDD" / "kos10" / "Part0_label.bmp"))
    parts = [np.asarray(open_image(manifest.root / record.mask)) for record in anomalous[1:]]
    assert np.array_equal(np.concatenate(parts), label[:823])


def test_aitex_unites_split_masks_and_leaves_out_the_image_without_one(raw):
    found_ = {Path(r.image).name: r for r in prepare("aitex", raw("aitex")).records("test") if r.label}
    assert sorted(found_) == [
        "0001_002_00_0.png",
        "0005_030_01_15.png",
        "0044_019_04_0.png",
        "0044_019_04_7.png",
        "0044_019_04_8.png",
    ]
    assert found_["0044_019_04_7.png"].defect == "Fuzzyball"
    root = paths.data() / "aitex"
    assert open_image(root / found_["0005_030_01_15.png"].image).size == (4000 - 15 * 256, 256)
    assert "0100_025_08" not in (root / "meta.json").read_text()


def test_br35h_tests_no_unlabelled_image_and_no_copy(raw):
    names = [record.image for record in prepare("br35h", raw("br35h")).records("test")]
    assert not [name for name in names if "pred" in name or "Mask-RCNN" in name]


def test_lag_takes_images_and_no_attention_maps(raw):
    assert {Path(r.image).parent.name for r in prepare("lag", raw("lag")).records("test")} == {"image"}


def test_visa_masks_of_class_numbers_are_not_empty(raw):
    manifest = prepare("visa", raw("visa"))
    assert manifest.mask_rule == "nonzero"
    assert {
        np.asarray(open_image(manifest.root / r.mask)).max() for r in manifest.records("test") if r.mask
    } == {
        1,
        2,
        3,
    }


@pytest.mark.parametrize("name", ["kvasir", "tn3k"])
def test_jpeg_masks_are_read_above_half(name, raw):
    manifest = prepare(name, raw(name))
    assert manifest.mask_rule == "half"
    lines = [line for line in read_lines(manifest.root / "manifest.jsonl", "details") if line["mask"]]
    for line in lines:
        area = line["width"] * line["height"] * 0.04
        assert line["anomalous_pixels"] == pytest.approx(area, rel=0.02)


def test_pairs_are_made_by_stem_and_never_by_position(tmp_path):
    root = tmp_path / "Kvasir-SEG"
    for stem in ("cju2", "cju10"):
        image(root / "images" / f"{stem}.jpg", (30, 20))
    mask(root / "masks" / "cju2.png", (30, 20))  # sorts differently than its image would
    mask(root / "masks" / "cju10.jpg", (30, 20))
    text(root / "masks" / "Thumbs.db")
    text(root / "masks" / "._cju2.png")
    text(root / "images" / ".DS_Store")
    pairs = [(Path(r.image).stem, Path(r.mask).stem) for r in prepare("kvasir", tmp_path).records("test")]
    assert pairs == [("cju10", "cju10"), ("cju2", "cju2")]


def test_elpv_drops_the_doubtful_and_draws_in_the_order_of_the_table(raw):
    found_ = prepare("elpv", raw("elpv")).records("test")
    assert {record.defect for record in found_} == {"good", "mono", "poly"}
    numbers = {int(Path(record.image).stem.removeprefix("cell")) for record in found_}
    assert numbers == {2, 6, 8, 12, 13, 14}, "what train_test_split draws with random_state=42"


# Faults


@pytest.fixture
def copy(raw, tmp_path) -> Callable[[str], Path]:
    """A copy of the raw download of a dataset, to be damaged."""
    return lambda name: shutil.copytree(raw(name), tmp_path / "download")


FAULTS = {
    "no mask": ("kvasir", "masks/cju1.jpg", None, r"cju1\.jpg has no mask cju1\.\* in .*masks"),
    "no image": ("kvasir", "images/cju1.jpg", None, r"cju1\.jpg has no image in .*images"),
    "cut image": ("brainmri", "yes/Y1.jpg", b"\xff\xd8\xff\xe0 cut", r"Y1\.jpg"),
    "cut table": ("visa", "split_csv/1cls.csv", b"object,split,label,image,mask\ncandle,te", "cut short"),
    "other table": ("headct", "labels.csv", b"number,label\n1,0\n", "must have the columns id, hemorrhage"),
    "no table": ("dagm", "Class3/Test/Label/Labels.txt", None, "Labels.txt cannot be read"),
    "bad line": (
        "elpv",
        "labels.csv",
        b"images/cell0001.png zero mono\n",
        "line 1: expected 'image probability",
    ),
    "unlisted": (
        "dagm",
        "Class3/Test/Label/Labels.txt",
        b"1\r\n0001\t0\t0001.PNG\t0\t0\r\n",
        "is not listed in",
    ),
    "not there": ("elpv", "images/cell0012.png", None, r"cell0012\.png does not exist"),
    "no good": ("mvtec", "wood/test/good/000.png", None, "no images in .*wood/test/good"),
    "no strip mask": ("aitex", "0001_002_00_mask.png", None, r"0001_002_00\.png has no mask"),
    "no label": ("sdd", "kos02/Part1_label.bmp", None, r"has no label Part1_label\.bmp"),
    "leaving": (
        "visa",
        "split_csv/1cls.csv",
        b"object,split,label,image,mask\ncandle,test,normal,../../x.JPG,\n",
        "leaves the dataset's folder",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_download_is_one_sentence_and_nothing_is_left(fault, copy, capsys):
    name, file, content, message = FAULTS[fault]
    root = copy(name)
    path = min(
        (p for p in root.rglob(Path(file).name) if p.as_posix().endswith(file)), key=lambda p: len(p.parts)
    )
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(KitError, match=message):
        prepare(name, root)
    assert not (paths.data() / name).exists()
    capsys.readouterr()
    assert main(["data", "prepare", name, "--from", str(root)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("fap: ")


def test_a_mask_of_another_size_is_refused(copy):
    root = copy("kvasir")
    mask(root / "Kvasir-SEG" / "masks" / "cju1.jpg", (5, 5))
    with pytest.raises(KitError, match=r"cju1\.jpg is 5x5 pixels but its image .* is 332x487"):
        prepare("kvasir", root)


@pytest.mark.parametrize("missing", [1, 10])
def test_a_partial_download_is_prepared_and_what_it_lacks_is_said(missing, copy, capsys):
    root = copy("mvtec")
    names = sorted(DATASETS["mvtec"].categories)[-missing:]
    for name in names:
        shutil.rmtree(root / "mvtec_anomaly_detection" / name)
    manifest = prepare("mvtec", root / "mvtec_anomaly_detection")
    assert len(found(manifest)) == 15 - missing
    said = capsys.readouterr().err
    assert f"it lacks {missing} of 15 categories: " in said
    assert {name for name in names if f" {name}," in said or f" {name}\n" in said} == set(names)
    assert "zipper, normal" not in said
    assert re.search(r"\nbottle, normal +20 +1  differs\n", said)
    assert main(["data", "check", "mvtec"]) == 1
    checked = capsys.readouterr().out
    assert "check FAILED" in checked
    assert re.search(r"\nzipper, normal +32 +0  differs\n", checked)


def test_few_categories_of_one_dataset_are_not_taken_for_another(copy, tmp_path):
    root = copy("btad")
    shutil.rmtree(root / "BTech_Dataset_transformed" / "02")
    shutil.rmtree(root / "BTech_Dataset_transformed" / "03")
    assert set(found(prepare("btad", root))) == {"01"}
    with pytest.raises(KitError, match="does not hold the raw download of mpdd"):
        prepare("mpdd", root)
    (tmp_path / "photos" / "wood" / "test").mkdir(parents=True)
    (tmp_path / "photos" / "fish" / "test").mkdir(parents=True)
    with pytest.raises(KitError, match="does not hold the raw download of mvtec"):
        prepare("mvtec", tmp_path)


def test_something_else_in_the_place_of_the_dataset_is_not_overwritten(raw, tmp_path):
    text(tmp_path / "thesis" / "chapter.txt")
    with pytest.raises(KitError, match="is there and is not kvasir"):
        prepare("kvasir", raw("kvasir"), tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").is_file()


def test_terms_are_shown_before_the_first_use_and_recorded(raw, capsys):
    root = raw("lag")
    manifest = prepare("lag", root)
    assert (
        "terms of lag: academic use only; uploading it anywhere again is forbidden" in capsys.readouterr().err
    )
    first = json.loads((manifest.root / "dataset.json").read_text())
    assert first["terms_shown"]
    prepare("lag", root)
    assert "terms of lag" not in capsys.readouterr().err
    assert json.loads((manifest.root / "dataset.json").read_text()) == first


# Real files


@pytest.mark.skipif(not REAL.is_dir(), reason="the real raw datasets are not here")
@pytest.mark.parametrize(
    ("name", "expected"), [("elpv", (377, 715)), ("brainmri", (98, 155)), ("kvasir", (0, 100))]
)
def test_real_downloads_give_the_protocols_counts(name, expected, capsys):
    manifest = prepare(name, REAL)
    assert found(manifest) == {DATASETS[name].categories[0]: expected}
    about = json.loads((manifest.root / "dataset.json").read_text())
    assert about["counts"]["all test images, normal"]["found"] == expected[0]
    assert ("is not as its protocol says" in capsys.readouterr().err) == (expected != DATASETS[name].total)
    assert read_manifest(manifest.root).splits == manifest.splits
    assert np.unique([r.image for r in manifest.records("test")]).size == sum(expected)
    report = check(manifest)
    assert report.passed == (name != "kvasir")
    assert any("22 such contents" in note for note in report.notes) == (name == "brainmri")
