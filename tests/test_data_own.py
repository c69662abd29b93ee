"""A folder of one's own, odd images, and the check."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_layouts import RAW, image, mask, text

from data_prep.check import check
from data_prep.own import describe, own, understand
from data_prep.prepare import prepare
from fap_lib.cli import main
from fap_lib.core import files, paths
from fap_lib.core.errors import KitError
from fap_lib.data.images import load_image, load_mask, open_image
from fap_lib.data.manifest import read_manifest
from fap_lib.inference.sources import gather
from fap_lib.runs.preparation import own_images

SIZE = (40, 30)


def draw(root: Path, *files: str) -> Path:
    """Images, and where the name has `mask` or `gt`, masks with anomalous pixels (`empty`: without)."""
    for file in files:
        if "mask" in file or "ground_truth" in file:
            mask(root / file, SIZE, box=(0, 0, 0, 0) if "empty" in file else (0.2, 0.2, 0.6, 0.6))
        else:
            image(root / file, SIZE)
    return root


def seen(root: Path) -> set[tuple]:
    """What was understood: split, image, mask, category, kind, label."""
    return {
        (split, r.image, r.mask, r.category, r.defect, r.label)
        for split, records in understand(root).records("", lambda image: " ".join(image.masks)).items()
        for r in records
    }


def test_images_and_masks(tmp_path):
    root = draw(tmp_path / "x", *(f"images/{n}.jpg" for n in "abc"), "masks/a.png", "masks/b_mask_empty.png")
    (root / "masks" / "b_mask_empty.png").rename(root / "masks" / "b.png")
    assert seen(root) == {
        ("test", "images/a.jpg", "masks/a.png", "x", "anomaly", 1),
        ("test", "images/b.jpg", None, "x", "good", 0),
        ("test", "images/c.jpg", None, "x", "unknown", None),
    }


@pytest.mark.parametrize("name", ["a_mask.png", "a_label.bmp", "a.png"])
def test_masks_beside_images(name, tmp_path):
    image(tmp_path / "x" / "a.jpg", SIZE)
    image(tmp_path / "x" / "b.jpg", SIZE)
    mask(tmp_path / "x" / name, SIZE, box=(0.2, 0.2, 0.6, 0.6))
    mask(tmp_path / "x" / name.replace("a", "c", 1), SIZE, box=(0, 0, 0, 0))
    image(tmp_path / "x" / "c.jpg", SIZE)
    assert seen(tmp_path / "x") == {
        ("test", "a.jpg", name, "x", "anomaly", 1),
        ("test", "b.jpg", None, "x", "unknown", None),
        ("test", "c.jpg", None, "x", "good", 0),
    }


def test_photographs_of_one_stem_are_images(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("a.jpg", "a.png"):
        Image.linear_gradient("L").resize(SIZE).save(tmp_path / "x" / name)
    assert [(image.path, image.kind) for image in understand(tmp_path / "x").images] == [
        ("a.jpg", "unknown"),
        ("a.png", "unknown"),
    ]


@pytest.fixture
def parted(tmp_path) -> Path:
    """A defect whose mask is in two files, one of 8 and one of 16 bits."""
    root = draw(tmp_path / "x", "train/good/9.png", "test/good/0.png", "test/bent/1.png")
    for number, kind in enumerate((np.uint8, np.uint16)):
        values = np.zeros(SIZE[::-1], dtype=kind)
        values[10 * number : 10 * number + 5] = np.iinfo(kind).max
        (root / "ground_truth" / "bent" / "1").mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / "ground_truth" / "bent" / "1" / f"00{number}.png")
    return root


def test_a_mask_in_several_files_is_united(parted, capsys):
    manifest = own(parted)
    (bent,) = (record for record in manifest.records("test") if record.label)
    assert bent.mask == "masks/test/bent/1.png.png"
    (scored,) = (record for record in own_images(parted)[0] if record.label)
    assert "1 file not used (in train): train/good/9.png" in capsys.readouterr().err
    for path in (manifest.root / bent.mask, parted / scored.mask):
        rows_ = load_mask(path, "half", SIZE, 30).any(axis=1)
        assert rows_.tolist() == ([True] * 5 + [False] * 5) * 2 + [False] * 10
    assert own_images(parted)[0] == own_images(parted)[0]
    mask(parted / "ground_truth" / "bent" / "1" / "000.png", (9, 9))
    with pytest.raises(KitError, match="are masks of one image, but not of one size"):
        own_images(parted)


def test_masks_are_scored_by_the_rule_that_labels_them(tmp_path):
    """A JPEG mask's noise is anomalous neither for the label nor for the pixels; class numbers for both."""
    for name, kind, value in (("photos", "jpg", 255), ("classes", "png", 2)):
        image(tmp_path / name / "images" / "a.png", SIZE)
        mask(tmp_path / name / "masks" / f"a.{kind}", SIZE, value, box=(0.25, 0.25, 0.75, 0.75))
    sources = gather([str(tmp_path / "photos"), str(tmp_path / "classes")], 40)
    assert sources.labels == [1, 1]
    assert sources.rules == ["half", "nonzero"]
    shares = sources.masks(np.arange(2)).float().mean((1, 2)).tolist()
    assert shares == pytest.approx([0.225, 0.225], abs=0.001)
    assert sources.part([1]).masks(np.arange(1)).float().mean().item() == pytest.approx(0.225, abs=0.001)


def test_files_that_are_not_used_are_named(tmp_path, capsys):
    root = draw(tmp_path / "x", "good/a.png", *(f"good/{name}_mask_empty.png" for name in "bcdef"))
    for name in "bcdef":
        (root / "good" / f"{name}_mask_empty.png").rename(root / "good" / f"{name}_mask.png")
        image(root / "good" / f"{name}.png", SIZE)
    text(root / "new\nline.txt")
    manifest = own(root)
    assert capsys.readouterr().err.splitlines()[:2] == [
        "5 files not used (mask of a normal image): good/b_mask.png, good/c_mask.png, good/d_mask.png "
        "and 2 more",
        "1 file not used (no image): 'new\\nline.txt'",
    ]
    about = json.loads((manifest.root / "dataset.json").read_text())
    assert about["unused"] == {"mask of a normal image": 5, "no image": 1}


def test_a_plain_folder_is_unlabelled_and_scored(tmp_path, capsys):
    root = draw(tmp_path / "my photos", "a b.png", "ü.JPG", "日本.png")
    text(root / "notes.txt")
    assert main(["data", "folder", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "test   my photos  unknown  unlabelled  3       0" in shown
    assert "Unlabelled images get scores and no metrics." in shown
    manifest = read_manifest(paths.data() / "my-photos")
    assert [record.label for record in manifest.records("test")] == [None] * 3
    assert all((manifest.root / record.image).is_file() for record in manifest.records("test"))
    assert main(["data", "check", "my-photos"]) == 0


def test_the_table_counts_images_and_masks(tmp_path):
    manifest = own(draw(tmp_path / "x", "good/a.png", "hole/b.png", "hole/c.png", "masks/hole/b.png"))
    assert describe(manifest).splitlines()[1:] == [
        "test   x         good  normal     1       0",
        "test   x         hole  anomalous  2       1",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "rule"), [("png", 255, "nonzero"), ("jpg", 255, "half"), ("png", 3, "nonzero")]
)
def test_the_mask_rule_is_seen_in_the_masks(kind, value, rule, tmp_path):
    image(tmp_path / "x" / "images" / "a.png", SIZE)
    mask(tmp_path / "x" / "masks" / f"a.{kind}", SIZE, value)
    assert own(tmp_path / "x").mask_rule == rule


def masks_of(root: Path, *arrays: np.ndarray | Image.Image) -> None:
    """Images `0.png`, `1.png`, ... with these masks."""
    for number, values in enumerate(arrays):
        image(root / "images" / f"{number}.png", SIZE)
        (root / "masks").mkdir(exist_ok=True)
        picture = values if isinstance(values, Image.Image) else Image.fromarray(values)
        picture.save(root / "masks" / f"{number}.png")


def hole(value: int = 255) -> np.ndarray:
    values = np.zeros(SIZE[::-1], dtype=np.uint8)
    values[5:15, 5:15] = value
    return values


def test_a_mask_is_read_once_for_label_and_pixels(tmp_path):
    black = np.zeros((*SIZE[::-1], 4), dtype=np.uint8)
    opaque, shaped = black.copy(), black.copy()
    opaque[..., 3] = 255
    shaped[..., 3] = hole()
    white_first = Image.fromarray((hole() == 0).astype(np.uint8), "P")  # index 0 where the hole is
    white_first.putpalette([255, 255, 255, 0, 0, 0])
    masks_of(tmp_path / "x", opaque, shaped, white_first)
    manifest = own(tmp_path / "x")
    records = manifest.records("test")
    assert [record.label for record in records] == [0, 1, 1]
    for record in records[1:]:
        found = load_mask(manifest.root / record.mask, manifest.mask_rule, SIZE, 40)
        assert found.mean() == pytest.approx(100 / (40 * 30), abs=0.01)


def test_noise_in_every_mask_makes_no_normal_image_anomalous(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 4, (2, *SIZE[::-1]), dtype=np.uint8)
    masks_of(tmp_path / "x", noise[0], np.maximum(noise[1], hole()))
    manifest = own(tmp_path / "x")
    assert manifest.mask_rule == "half"
    assert [record.label for record in manifest.records("test")] == [0, 1]
    main(["data", "check", "x"])
    said = capsys.readouterr().out
    assert "values of the 1 masks that have more than two: 0: " in said
    assert "255: 8.33%" in said

    masks_of(tmp_path / "y", hole(1), hole(255))  # one mask of class numbers: not noise
    assert [record.label for record in own(tmp_path / "y").records("test")] == [1, 1]


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(KitError, match="there is no folder"):
        own(tmp_path / "nowhere")
    text(tmp_path / "x" / "notes.txt")
    with pytest.raises(KitError, match="there are no images to test"):
        own(tmp_path / "x")
    with pytest.raises(KitError, match="is the name of a benchmark dataset: use `fap data prepare visa"):
        own(tmp_path / "x", "visa")
    with pytest.raises(KitError, match="are in each other"):
        own(draw(tmp_path / "y", "a.png"), destination=tmp_path / "y" / "out")
    draw(tmp_path / "z", "new\nline.png")
    with pytest.raises(KitError, match=r"file name 'new\\nline.png' .*; rename it") as caught:
        own(tmp_path / "z")
    assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "w").mkdir()
    draw(tmp_path / "w", "a.png")
    os.rename(tmp_path / "w" / "a.png", os.fsencode(tmp_path / "w") + b"/\xff.png")
    with pytest.raises(KitError, match="rename it"):
        own(tmp_path / "w")
    assert not paths.data().exists() or not list(paths.data().glob("[!.]*"))


# Odd images


def odd(root: Path, name: str) -> None:
    """One image of the kind `name` in `root`."""
    root.mkdir(parents=True)
    grey = Image.linear_gradient("L").resize(SIZE)
    if name == "16-bit":
        Image.fromarray(np.asarray(grey).astype(np.uint16) << 8).save(root / "x.png")
    elif name == "EXIF":
        exif = Image.Exif()
        exif[0x0112] = 6
        grey.save(root / "x.jpg", exif=exif)
    elif name == "animated":
        grey.save(root / "x.gif", save_all=True, append_images=[grey.rotate(90), grey.rotate(180)])
    elif name == "1-pixel":
        Image.new("RGB", (1, 1)).save(root / "x.png")
    elif name == "float":
        grey.convert("F").save(root / "x.tif")
    elif name == "truncated":
        grey.resize((500, 500)).save(root / "x.jpg")
        os.truncate(root / "x.jpg", (root / "x.jpg").stat().st_size // 2)
    elif name == "empty":
        (root / "x.png").touch()
    else:
        grey.convert(name).save(root / f"x.{'tif' if name == 'CMYK' else 'png'}")


@pytest.mark.parametrize("kind", ["16-bit", "CMYK", "P", "RGBA", "LA", "1", "EXIF", "animated", "1-pixel"])
def test_odd_images_are_used_and_remarked_on(kind, tmp_path):
    odd(tmp_path / "x", kind)
    manifest = own(tmp_path / "x")
    (record,) = manifest.records("test")
    pixels = load_image(manifest.root / record.image, 32)
    assert pixels.shape == (32, 32, 3)
    if kind not in ("1-pixel", "EXIF", "1"):
        assert pixels[0].mean() < 12, "the gradient begins black"
        assert pixels[-1].mean() > 243, "and ends white"
    remarks = {
        "EXIF": "is stored rotated (EXIF)",
        "animated": "has several frames; only the first is used",
        "1-pixel": "is smaller than 16 pixels",
    }
    notes = check(manifest).notes
    assert len(notes) == (kind in remarks)
    assert not notes or remarks[kind] in notes[0]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("float", "F-mode pixels, which have no fixed range"),
        ("truncated", "it may be truncated"),
        ("empty", "is not an image the kit can read"),
    ],
)
def test_images_that_cannot_be_used_are_named(kind, message, tmp_path):
    odd(tmp_path / "x", kind)
    draw(tmp_path / "x", "fine.png")
    with pytest.raises(KitError, match=message) as caught:
        own(tmp_path / "x")
    assert str(tmp_path / "x" / "x.") in str(caught.value), "the user's path, not the link's"
    assert not (paths.data() / "x").exists()


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    image(tmp_path / "x" / "a.png", (150, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # between once and twice, Pillow only warns
    with pytest.raises(KitError, match="too many pixels"):
        own(tmp_path / "x")


def test_twelve_bits_in_a_sixteen_bit_file_are_remarked_on(tmp_path):
    (tmp_path / "x").mkdir()
    Image.fromarray(np.full(SIZE[::-1], 4095, dtype=np.uint16)).save(tmp_path / "x" / "a.png")
    assert any("has 16-bit pixels of 12 bits or fewer" in note for note in check(own(tmp_path / "x")).notes)


def test_sixteen_bit_masks(tmp_path):
    values = np.zeros(SIZE[::-1], dtype=np.uint16)
    values[:10] = 1
    values[:5] = 65535
    Image.fromarray(values).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", "nonzero", SIZE, 30).sum() == 300
    assert load_mask(tmp_path / "m.png", "half", SIZE, 30).sum() == 150


# The check


@pytest.fixture
def polyps(tmp_path) -> Path:
    RAW["kvasir"](tmp_path / "raw")
    prepare("kvasir", tmp_path / "raw")
    return tmp_path / "raw" / "Kvasir-SEG"


def problems() -> list[str]:
    return check(read_manifest(paths.data() / "kvasir")).problems


def test_the_check_finds_what_became_of_the_files(polyps):
    assert problems() == []
    image(polyps / "images" / "cju1.jpg", (332, 487))
    assert [
        p.endswith("cju1.jpg has changed since the dataset was prepared; prepare it again.")
        for p in problems()
    ] == [True]
    os.truncate(polyps / "images" / "cju1.jpg", 700)
    mask(polyps / "masks" / "cju10.jpg", (1920, 1072), box=(0, 0, 0, 0))
    (polyps / "images" / "cju0qkwl35piu0993l0dewei2.jpg").unlink()
    found = "\n".join(problems())
    assert "cju1.jpg cannot be decoded" in found
    assert "mask of the anomalous image" in found
    assert "cju10.jpg is empty" in found
    assert "dewei2.jpg does not exist" in found


def test_the_check_shows_soft_masks_and_duplicates(polyps, capsys):
    assert main(["data", "check", "kvasir"]) == 1
    assert "has a mask with soft edges (grey pixels)" in capsys.readouterr().out
    root = draw(polyps.parent / "own", "good/a.png", "hole/b.png", "hole/c.png")
    shutil.copy(root / "hole" / "b.png", root / "hole" / "c.png")
    shutil.copy(root / "good" / "a.png", root / "hole" / "d.png")
    notes = check(own(root)).notes
    assert notes[0] == "raw/good/a.png is there as normal and as anomalous image."
    assert notes[1].endswith("(2 such contents that occur more than once).")


@pytest.mark.usefixtures("polyps")
def test_a_difference_is_a_table(capsys):
    assert main(["data", "check", "kvasir"]) == 1
    shown = capsys.readouterr()
    assert "colon, anomalous                1000         3  differs" in shown.out
    assert "Traceback" not in shown.err


def test_check_of_what_is_not_there(capsys):
    assert main(["data", "check", "mvtec"]) == 2
    assert "prepare the dataset with `fap data prepare`" in capsys.readouterr().err


@pytest.mark.usefixtures("polyps")
def test_a_damaged_details_file_is_named(capsys):
    (paths.data() / "kvasir" / "manifest.jsonl").write_text('{"image": "x"}\n[1]\n')
    assert main(["data", "check", "kvasir"]) == 2
    assert "line 2: must be an object" in capsys.readouterr().err


def test_many_files_are_checked_in_parallel(tmp_path, monkeypatch):
    for number in range(450):
        image(tmp_path / "x" / "good" / f"{number:03}.png", (20, 20))
    draw(tmp_path / "x", "hole/a.png")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert [r.image for r in own(tmp_path / "x").records("test")][:450] == [
        f"raw/good/{n:03}.png" for n in range(450)
    ]
    (tmp_path / "x" / "good" / "444.png").write_bytes(b"broken")
    with pytest.raises(KitError, match=r"444\.png is not an image"):
        own(tmp_path / "x")


# Targets that refuse


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")],
)
def test_a_target_that_refuses_leaves_the_earlier_dataset(code, message, tmp_path, monkeypatch):
    RAW["sdd"](tmp_path / "raw")
    before = (prepare("sdd", tmp_path / "raw").root / "meta.json").read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(KitError, match=message):
        prepare("sdd", tmp_path / "raw")
    assert (paths.data() / "sdd" / "meta.json").read_bytes() == before
    assert [path.name for path in paths.data().iterdir()] == ["sdd"]
    assert all(
        (paths.data() / "sdd" / r.image).is_file()
        for r in read_manifest(paths.data() / "sdd").records("test")
    )
    assert json.loads((paths.data() / "sdd" / "dataset.json").read_text())["name"] == "sdd"
    assert open_image(paths.data() / "sdd" / "SDD" / "test" / "defect" / "kos01_Part1_1.png").size == (
        500,
        415,
    )


def test_an_earlier_folder_is_put_back_after_a_kill_between_two_renames(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    text(tmp_path / "set" / "old.txt")

    def kill(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(files, "_restore", lambda *_: None)  # a killed process does not tidy up
        renamed = os.rename
        patch.setattr(files.os, "rename", lambda a, b: kill() if "partial" in str(a) else renamed(a, b))
        with pytest.raises(SystemExit), files.whole_folder(tmp_path / "set"):
            pass
    assert not (tmp_path / "set").exists()
    with pytest.raises(KitError, match="wrong"), files.whole_folder(tmp_path / "set"):
        raise KitError("wrong input")
    assert (tmp_path / "set" / "old.txt").is_file()
