"""Preparation of raw downloads: on trees of their exact layout, and on the real files where they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.prepare import prepare
from data_prep.registry import DATASETS
from fap_lib import paths
from fap_lib.errors import KitError
from fap_lib.manifest import read_manifest

REAL = Path(os.environ.get("FAP_SHARED", paths.REPOSITORY.parent / "shared")) / "real"


def picture(path: Path, mode: str = "L", size: tuple[int, int] = (12, 10), kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 100 if mode in ("L", "P") else None).save(path, format=kind)


@pytest.fixture
def elpv(tmp_path) -> Path:
    root = tmp_path / "download" / "elpv-dataset" / "src" / "elpv_dataset" / "data"
    labels = [0.0] * 9 + [0.3333333333333333, 0.6666666666666666] + [1.0] * 3
    lines = []
    for number, probability in enumerate(labels, 1):
        picture(root / "images" / f"cell{number:04d}.png")
        lines.append(f"images/cell{number:04d}.png  {probability}    {'mono' if number % 2 else 'poly'}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "download"


@pytest.fixture
def brainmri(tmp_path) -> Path:
    root = tmp_path / "archive" / "brain_tumor_dataset"
    picture(root / "no" / "1 no.jpeg", "RGB")
    picture(root / "no" / "no 9.png", "P")
    picture(root / "no" / "No15.jpg", "RGBA", kind="PNG")  # PNG data behind a .jpg name
    picture(root / "yes" / "Y97.JPG")
    picture(root / "yes" / "Y1.jpg", "RGB")
    (root / "yes" / "Thumbs.db").write_bytes(b"stray")
    return tmp_path


@pytest.fixture
def kvasir(tmp_path) -> Path:
    root = tmp_path / "Kvasir-SEG"
    for stem in ("cju2", "cju10"):
        picture(root / "images" / f"{stem}.jpg", "RGB")
        picture(root / "masks" / f"{stem}.jpg", "RGB")
    (root / "kavsir_bboxes.json").write_text("{}")
    return root


def counts(manifest) -> tuple[int, int]:
    labels = [record.label for record in manifest.records("test")]
    return labels.count(0), labels.count(1)


def test_elpv_keeps_a_quarter_of_the_normal_cells_and_drops_the_doubtful(elpv, capsys):
    manifest = prepare("elpv", elpv)
    assert counts(manifest) == (3, 3)  # ceil(9 / 4)
    assert {record.defect for record in manifest.records("test")} == {"good", "mono", "poly"}
    assert all((manifest.root / record.image).is_file() for record in manifest.records("test"))
    assert "the protocol has 377 and 715" in capsys.readouterr().err


def test_brainmri_takes_every_image_and_no_stray_file(brainmri):
    manifest = prepare("brainmri", brainmri)
    assert counts(manifest) == (3, 2)
    assert "Thumbs" not in (manifest.root / "meta.json").read_text()


def test_kvasir_pairs_by_name_and_reads_jpeg_masks_at_half(kvasir):
    for source in (kvasir, kvasir.parent):
        manifest = prepare("kvasir", source)
        assert manifest.mask_rule == "half"
        assert [Path(record.image).stem for record in manifest.records("test")] == ["cju10", "cju2"]
        assert all(Path(r.image).stem == Path(r.mask).stem for r in manifest.records("test"))


def test_raw_files_are_linked_and_not_copied(kvasir):
    manifest = prepare("kvasir", kvasir)
    assert (manifest.root / "raw").is_symlink()
    assert (manifest.root / "raw").resolve() == kvasir.resolve()
    assert sorted(path.name for path in manifest.root.iterdir()) == ["dataset.json", "meta.json", "raw"]


def test_preparing_again_gives_the_same_manifest(elpv):
    first = (prepare("elpv", elpv).root / "meta.json").read_bytes()
    assert (prepare("elpv", elpv).root / "meta.json").read_bytes() == first


def test_faults_of_a_download_are_named(elpv, kvasir, brainmri, tmp_path):
    (kvasir / "masks" / "cju2.jpg").rename(kvasir / "masks" / "other.jpg")
    with pytest.raises(KitError, match=r"cju2\.jpg has no mask"):
        prepare("kvasir", kvasir)
    picture(kvasir / "masks" / "cju2.jpg", size=(5, 5))
    with pytest.raises(KitError, match="is not as large as its image"):
        prepare("kvasir", kvasir)
    table = next(elpv.rglob("labels.csv"))
    table.write_text("images/cell0001.png zero mono\n")
    with pytest.raises(KitError, match="line 1: expected 'image probability type'"):
        prepare("elpv", elpv)
    (tmp_path / "archive" / "brain_tumor_dataset" / "yes" / "Y1.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(KitError, match=r"Y1\.jpg"):
        prepare("brainmri", brainmri)
    with pytest.raises(KitError, match="does not hold the raw download of kvasir"):
        prepare("kvasir", elpv)
    assert not (paths.data() / "kvasir" / "meta.json").exists()


def test_something_else_in_the_place_of_the_link_is_not_overwritten(kvasir, tmp_path):
    target = tmp_path / "prepared"
    (target / "raw").mkdir(parents=True)
    with pytest.raises(KitError, match="is not a link the kit made"):
        prepare("kvasir", kvasir, target)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real raw datasets are not here")
@pytest.mark.parametrize(
    ("name", "expected"), [("elpv", (377, 715)), ("brainmri", (98, 155)), ("kvasir", (0, 100))]
)
def test_real_downloads_give_the_protocols_counts(name, expected, capsys):
    manifest = prepare(name, REAL)
    assert counts(manifest) == expected
    about = json.loads((manifest.root / "dataset.json").read_text())
    assert about["found"] == {"normal": expected[0], "anomalous": expected[1]}
    assert ("the protocol has" in capsys.readouterr().err) == (expected != DATASETS[name].expected)
    assert read_manifest(manifest.root).splits == manifest.splits
    assert np.unique([r.image for r in manifest.records("test")]).size == sum(expected)
