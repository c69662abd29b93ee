"""`fap score`: images in; scores, maps and a page to look at out; or one sentence."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import toy
from PIL import Image

from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.data.manifest import Record
from fap_lib.inference.detector import Detector
from fap_lib.inference.folder import find_prompts, map_names, normal_only
from fap_lib.inference.gallery import MOST, PAGE, Card, Gallery
from fap_lib.inference.overlay import OPACITY, outline, overlay
from fap_lib.pictures.colours import CIVIDIS, OUTLINE, palette


def draw(folder: Path, count: int, defect: str = "good", suffix: str = ".png") -> Path:
    """Pictures of toy stripes, as wide as two high."""
    random = np.random.default_rng(count)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels, _ = toy.draw("stripes", defect, random)
        Image.fromarray(pixels[:49]).save(folder / f"{number}{suffix}")
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "scores.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_an_unlabelled_folder_with_normal_images(tmp_path, capsys):
    images = draw(draw(tmp_path / "holiday pictures", 2), 3, "spot", ".jpg")  # 0.png and 0.jpg: two images
    normal = draw(tmp_path / "fine", 4)
    arguments = ["score", str(images), "--normal", str(normal), "--alpha", "0.2"]
    assert main(arguments) == 0
    folder = paths.runs() / "score-holiday pictures"
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == str(folder)
    assert "5 images, " in said

    rows = rows_of(folder)
    assert {row["image"] for row in rows} == {"0.png", "1.png", "0.jpg", "1.jpg", "2.jpg"}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row["label"] for row in rows} == {""}
    for row in rows:
        with Image.open(folder / row["map"]) as picture:
            assert picture.mode == "P"
            assert picture.size == (98, 49)
            assert picture.getpalette() == palette()

    record = json.loads((folder / "run.json").read_text())
    assert record["prompts"]["dataset"] == "mini-a"
    assert [float(row["score"]) > record["threshold"] for row in rows] == [
        row["flagged"] == "yes" for row in rows
    ]
    assert not (folder / "metrics.csv").exists()
    page = (folder / PAGE).read_text()
    assert page.count("<figure") == 5
    assert page.count('data-flag="yes"') == sum(row["flagged"] == "yes" for row in rows)
    assert "http" not in page.replace("http-equiv", "")  # self-contained


def test_a_labelled_folder_without_a_threshold(tmp_path, capsys):
    images = tmp_path / "parts"
    draw(images / "good", 2)
    draw(images / "spot", 2, "spot")
    assert main(["score", str(images), "--run", str(tmp_path / "out"), "--prompts", "released"]) == 0
    assert "4 images, no threshold (give normal images with --normal)" in capsys.readouterr().out
    rows = rows_of(tmp_path / "out")
    assert sorted(row["label"] for row in rows) == ["0", "0", "1", "1"]
    assert {row["flagged"] for row in rows} == {""}
    metrics = (tmp_path / "out" / "metrics.csv").read_text()
    assert "image,auroc" in metrics
    assert "have no mask" in metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{images}", "--prompts", "papr"], "there are no prompts 'papr'; give paper or released"),
        (
            ["{images}", "--profile", "paper"],
            "no prompts 'paper' for the profile paper; give the path of a che",
        ),
        (["{images}/*.tif"], "no file fits the pattern"),
        (["{images}", "--profile", "min"], "unknown profile 'min'"),
        (["{images}-no"], "images-no; give one that exists"),
        (["{images}", "--normal", "{images}-no"], "there is no folder"),
        (["{images}", "--run", "{images}/out"], "the results would go into"),
    ],
)
def test_mistakes_end_in_one_sentence_before_anything_runs(tmp_path, capsys, arguments, message):
    images = draw(tmp_path / "images", 1)
    assert main(["score", *(text.format(images=images) for text in arguments)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not paths.runs().exists()


def test_an_empty_folder_and_a_damaged_image(tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    assert main(["score", str(tmp_path / "nothing")]) == 2
    assert "there are no images to test in" in capsys.readouterr().err

    images = draw(tmp_path / "images", 2)
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:200])
    assert main(["score", str(images)]) == 2
    said = capsys.readouterr().err
    assert f"{images / '1.png'} cannot be decoded" in said
    assert not (paths.runs() / "score-images" / "scores.csv").exists()


def test_files_patterns_and_folders_together_as_json(tmp_path, capsys):
    one, two = draw(tmp_path / "in" / "one", 2), draw(tmp_path / "in" / "two", 3, "spot", ".jpg")
    given = [str(one), str(two / "0.jpg"), str(two / "[01].jpg")]
    assert main(["score", *given, "--json", "--overlay"]) == 0
    said = json.loads(capsys.readouterr().out)
    names = {row["image"] for row in said["images"]}
    assert names == {"one/0.png", "one/1.png", "two/0.jpg", "two/1.jpg"}
    assert said["threshold"] is None
    assert {row["flagged"] for row in said["images"]} == {None}
    folder = paths.runs() / "score-in"
    assert said["run"] == str(folder)
    for row in said["images"]:
        stem = row["map"].removeprefix("maps/").removesuffix(".png")
        with Image.open(folder / "overlays" / f"{stem}.jpg") as picture:
            assert picture.size == (98, 49)
        expected = Detector.load("paper").predict(tmp_path / "in" / row["image"]) if stem == "one/0" else None
        assert expected is None or row["score"] == pytest.approx(expected.score, abs=2e-6)
    assert '<option value="two">two (2)</option>' in (folder / PAGE).read_text()


def test_bad_images_are_left_out_and_counted(tmp_path, capsys):
    images = draw(tmp_path / "images", 3)
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:200])
    assert main(["score", str(images), "--errors", "skip"]) == 0
    said = capsys.readouterr().out
    assert f"left out: the image {images / '1.png'} cannot be decoded" in said
    assert "2 images, no threshold (give normal images with --normal), 1 left out" in said
    record = json.loads((paths.runs() / "score-images" / "run.json").read_text())
    assert len(record["skipped"]) == 1
    assert record["images"] == 2
    for path in images.iterdir():
        path.write_bytes(b"nothing")
    assert main(["score", str(images), "--errors", "skip"]) == 2
    assert "none of the 3 images could be read; the first:" in capsys.readouterr().err
    assert not (paths.runs() / "score-images" / "scores.csv").exists()  # the one from before


def test_too_few_normal_images_are_refused_before_any_is_scored(tmp_path, capsys, monkeypatch):
    images, normal = draw(tmp_path / "images", 1), draw(tmp_path / "fine", 3)
    monkeypatch.setattr(Detector, "predict", None)
    assert main(["score", str(images), "--normal", str(normal), "--alpha", "0.2"]) == 2
    assert "alpha = 0.2 needs at least 4 normal images, but there are 3" in capsys.readouterr().err
    assert not paths.runs().exists()


def test_steps_are_told_on_a_terminal_alone(tmp_path, capsys, monkeypatch):
    images, normal = draw(tmp_path / "images", 1), draw(tmp_path / "fine", 4)
    words = ["score", str(images), "--normal", str(normal), "--alpha", "0.2"]
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    said = io.StringIO()
    said.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", said)
    assert main(words) == 0
    ends = [line.split("\x1b[K")[-1].split("  ")[0] for line in said.getvalue().split("\n")]
    assert ends == ["[1/3] normal images", "[2/3] scoring", "[3/3] table and page", ""]


def test_images_also_calibrated_on_are_said(tmp_path, capsys):
    normal = draw(tmp_path / "fine", 5)
    assert main(["score", str(normal / "0.png"), "--normal", str(normal), "--alpha", "0.2"]) == 0
    assert "1 of them are among the normal images" in capsys.readouterr().out


def test_colours_are_matplotlibs():
    steps = matplotlib.colormaps["cividis"](np.arange(256) / 255)[:, :3]
    assert palette() == list(CIVIDIS) == np.rint(255 * steps).astype(int).flatten().tolist()


def test_an_overlay_shows_where_and_an_outline():
    values = np.zeros((20, 30), np.float32)
    values[5:15, 10:20] = 1
    image = Image.new("RGB", (30, 20), (100, 100, 100))
    drawn = np.asarray(overlay(image, values, 0.5))
    assert (drawn[0, 0] == 100).all()
    inside = np.rint((1 - OPACITY) * 100 + OPACITY * np.frombuffer(CIVIDIS[-3:], np.uint8))
    assert (drawn[10, 15] == inside).all()
    assert (drawn[5, 12] == OUTLINE).all()
    assert not (np.asarray(overlay(image, values, None)) == OUTLINE).all(-1).any()
    assert outline(values > 0.5, 1).sum() == 36
    assert outline(np.ones((5, 5), bool), 2).sum() == 0


def test_a_gallery_keeps_the_highest_scores(tmp_path):
    gallery = Gallery()
    for number in range(MOST + 2):
        gallery.add(Card(f"<{number}>", "a", (number * 7919 % (MOST + 2)) / 2000, None, (b"", b"")))
    page = gallery.write(tmp_path, "T", []).read_text()
    assert page.count("<figure") == MOST
    assert f"the {MOST} images with the highest scores of {MOST + 2}" in page
    scores = [float(text.split("<")[0]) for text in page.split("<strong>")[1:]]
    assert scores == sorted(scores, reverse=True)
    assert "&lt;3&gt;" in page
    assert 'id="flag"' not in page


def test_normal_images_must_be_normal(tmp_path):
    manifest = toy.write(tmp_path / "toy-aux", "toy-aux", each=2)
    with pytest.raises(KitError, match=r"the normal images contain 4 of other kinds, such as stripes/spot"):
        normal_only(manifest)
    fine = [record for record in manifest.records("test") if record.label == 0]
    assert normal_only(replace(manifest, splits={"test": fine})).records("test") == fine


def test_prompts_by_name_or_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").touch()
    assert find_prompts("released", "mini") == "released"
    assert find_prompts("mine.safetensors", "paper") == str(tmp_path / "mine.safetensors")


def test_no_two_images_share_a_map():
    records = [
        Record(f"raw/{name}", None, "a", "good", None)
        for name in ("x/0.png", "x/0.jpg", "y/0.png", "1.b.png")
    ]
    assert map_names(records) == ["maps/x/0.png.png", "maps/x/0.jpg.png", "maps/y/0.png", "maps/1.b.png"]
