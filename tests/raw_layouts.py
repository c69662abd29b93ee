"""Tiny trees with exactly the raw layouts of the 19 datasets: names, suffixes, modes, sizes, traps.

Each function writes one download into a folder and says what a preparation must find there: normal and
anomalous test images per category, and train images. All pixels are drawn here.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from data_prep.registry import DATASETS


class Found(NamedTuple):
    test: dict[str, tuple[int, int]]
    train: int = 0


_shade = itertools.cycle(range(40, 240))
MARK = (0.4, 0.4, 0.6, 0.6)
"""Where masks are anomalous, as shares of width and height."""


def image(path: Path, size: tuple[int, int], mode: str = "RGB", kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = next(_shade)
    picture = Image.new("L", size, shade)
    picture.putpixel((0, 0), (shade * 7) % 256)
    picture.convert(mode).save(path, format=kind)


def mask(path: Path, size: tuple[int, int], value: int = 255, box: tuple[float, ...] = MARK) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("L", size)
    left, top, right, bottom = (round(share * size[i % 2]) for i, share in enumerate(box))
    picture.paste(value, (left, top, right, bottom))
    picture.save(path)


def text(path: Path, content: str = "stray") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())


def mvtec(root: Path) -> Found:
    root = root / "mvtec_anomaly_detection"
    names = DATASETS["mvtec"].categories
    for number, name in enumerate(names):
        size, mode = (
            ((1024, 1024) if number % 2 else (700, 700)),
            "L" if name in ("grid", "screw", "zipper") else "RGB",
        )
        for place in ("train/good/000", "train/good/001", "test/good/000", "test/broken_large/000"):
            image(root / name / f"{place}.png", size, mode)
        mask(root / name / "ground_truth" / "broken_large" / "000_mask.png", size)
        text(root / name / "license.txt")
        text(root / name / "readme.txt")
    return Found(dict.fromkeys(names, (1, 1)), 2 * len(names))


def visa(root: Path) -> Found:
    names = DATASETS["visa"].categories
    rows = ["object,split,label,image,mask"]
    for number, name in enumerate(names):
        data, digits = f"{name}/Data", 4 if number % 2 else 3
        for index, split in enumerate(("train", "test")):
            file = f"{data}/Images/Normal/{index:0{digits}}.JPG"
            image(root / file, (1500, 1000), kind="JPEG")
            rows.append(f"{name},{split},normal,{file},")
        file, own = f"{data}/Images/Anomaly/000.JPG", f"{data}/Masks/Anomaly/000.png"
        image(root / file, (1500, 1000), kind="JPEG")
        mask(root / own, (1500, 1000), value=1 + number % 3)  # the defect's class
        rows.append(f"{name},test,anomaly,{file},{own}")
        text(root / name / "image_anno.csv")
    text(root / "split_csv" / "1cls.csv", "\n".join(rows) + "\n")
    return Found(dict.fromkeys(names, (1, 1)), len(names))


def mpdd(root: Path) -> Found:
    root = root / "MPDD"
    names = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")
    for name in names:
        for place in (
            "train/good/000",
            "test/good/000",
            "test/scratches/000",
            "test/hole/000",
            "test/hole/001",
        ):
            image(root / name / f"{place}.png", (1024, 1024))
        for place in ("scratches/000", "hole/000", "hole/001"):
            mask(root / name / "ground_truth" / f"{place}_mask.png", (1024, 1024))
    return Found(dict.fromkeys(names, (1, 3)), len(names))


def btad(root: Path) -> Found:
    root = root / "BTech_Dataset_transformed"
    for name, size, images, masks in (
        ("01", (1600, 1600), "bmp", "png"),
        ("02", (600, 600), "png", "png"),
        ("03", (800, 600), "bmp", "bmp"),
    ):
        for place in ("train/ok/0000", "test/ok/0000", "test/ok/0001", "test/ko/0000"):
            image(root / name / f"{place}.{images}", size)
        mask(root / name / "ground_truth" / "ko" / f"0000.{masks}", size)
    return Found(dict.fromkeys(("01", "02", "03"), (2, 1)), 3)


def sdd(root: Path) -> Found:
    """Six strips, 18 thirds; one defect in the middle third, one across the first and the second."""
    root = root / "KolektorSDD"
    defects = {("kos01", 1): MARK, ("kos10", 0): (0.2, 0.2, 0.3, 0.5)}
    for folder, number in itertools.product(("kos01", "kos02", "kos10"), (0, 1)):
        size = (500, 1235 + 10 * number)
        image(root / folder / f"Part{number}.jpg", size, "L")
        mask(root / folder / f"Part{number}_label.bmp", size, box=defects.get((folder, number), (0, 0, 0, 0)))
    return Found({"SDD": (4, 3)}, 11)


def aitex(root: Path) -> Found:
    """Two normal strips (32 squares), four defective ones: a plain mask, a mask in two files, no mask, and a
    strip that is not 16 squares long. The folders are doubled, as Kaggle packs them."""
    size = (4096, 256)
    for number, fabric in enumerate(("2306881-210020u", "2311694-2040n7u")):
        image(root / "NODefect_images" / fabric / f"000{number}_000_0{number}.png", size, "L")
    defects, masks = (root / f"{name}_images" / f"{name}_images" for name in ("Defect", "Mask"))
    for name in ("0001_002_00", "0044_019_04", "0100_025_08"):
        image(defects / f"{name}.png", size, "L")
    image(defects / "0005_030_01.png", (4000, 256), "L")
    mask(masks / "0001_002_00_mask.png", size, box=(0.02, 0.2, 0.04, 0.4))  # one square
    mask(masks / "0044_019_04_mask1.png", size, box=(0.02, 0.2, 0.04, 0.4))  # one, then another two
    mask(masks / "0044_019_04_mask2.png", size, box=(0.49, 0.2, 0.51, 0.4))
    mask(masks / "0005_030_01_mask.png", (4000, 256), box=(0.99, 0.2, 1, 0.4))  # the last, narrow square
    return Found({"AITEX": (8, 5)}, 24)


def elpv(root: Path) -> Found:
    root = root / "elpv-dataset-master" / "src" / "elpv_dataset" / "data"
    labels = [0.0] * 9 + [0.3333333333333333, 0.6666666666666666] + [1.0] * 3
    lines = []
    for number, probability in enumerate(labels, 1):
        image(root / "images" / f"cell{number:04d}.png", (300, 300), "L")
        lines.append(f"images/cell{number:04d}.png  {probability}    {'mono' if number % 2 else 'poly'}")
    text(root / "labels.csv", "\n".join(lines) + "\n")
    return Found({"elpv": (3, 3)}, 6)


def dagm(root: Path) -> Found:
    root = root / "DAGM_KaggleUpload"
    names = [f"Class{number}" for number in range(1, 11)]
    for name, (part, first) in itertools.product(names, (("Train", 576), ("Test", 1))):
        lines = ["1"]
        for number, defect in ((first, True), (first + 1, False), (first + 2, False)):
            image(root / name / part / f"{number:04}.PNG", (512, 512), "L", "PNG")
            own = f"{number:04}_label.PNG" if defect else "0"
            if defect:
                mask(root / name / part / "Label" / own, (512, 512))
            lines.append(f"{number:04}\t{int(defect)}\t{number:04}.PNG\t{int(defect)}\t{own}")
        text(root / name / part / "Label" / "Labels.txt", "\r\n".join(lines) + "\r\n")
        text(root / name / part / "Thumbs.db")
        text(root / name / part / "Label" / "Thumbs.db")
    return Found(dict.fromkeys(names, (2, 1)), 30)


def dtd(root: Path) -> Found:
    root = root / "DTD-Synthetic"
    names = DATASETS["dtd"].categories
    for number, name in enumerate(names):
        size = (180 + 40 * number, 200)
        for place in ("train/good/000", "test/good/000", "test/bad/000", "test/bad/001"):
            image(root / name / f"{place}.png", size)
        for number in (0, 1):
            mask(root / name / "ground_truth" / "bad" / f"00{number}_mask.png", size)
    return Found(dict.fromkeys(names, (1, 2)), len(names))


def headct(root: Path) -> Found:
    for number in range(5):
        size = (134 + 10 * number, 135)
        image(root / "head_ct" / "head_ct" / f"{number:03}.png", size, "RGBA" if number == 3 else "RGB")
    text(root / "labels.csv", "id, hemorrhage\n" + "".join(f"{n},{int(n < 3)}\n" for n in range(5)))
    return Found({"headct2": (2, 3)})


def brainmri(root: Path) -> Found:
    """The archive holds every image twice: on top, and in `brain_tumor_dataset`."""
    for place in (root, root / "brain_tumor_dataset"):
        image(place / "no" / "1 no.jpeg", (630, 630))
        image(place / "no" / "no 923.jpg", (225, 225), "L")
        image(place / "no" / "N11.jpg", (150, 198))
        image(place / "no" / "No15.jpg", (198, 150), "RGBA", "PNG")  # PNG data behind a .jpg name
        image(place / "no" / "no 96.jpg", (225, 225), "P", "PNG")
        image(place / "no" / "no.jpg", (225, 225), "RGB", "PNG")
        image(place / "yes" / "Y97.JPG", (1920, 1080), kind="JPEG")
        image(place / "yes" / "Y1.jpg", (180, 218))
        text(place / "yes" / "Thumbs.db")
    return Found({"brainmri2": (6, 2)})


def br35h(root: Path) -> Found:
    for number in range(3):
        image(root / "no" / f"no{number}.jpg", (201, 173))
        image(root / "yes" / f"y{number}.jpg", (348, 287))
        image(root / "pred" / f"pred{number}.jpg", (225, 225))  # unlabelled
        image(root / "Br35H-Mask-RCNN" / "TRAIN" / f"y{number}.jpg", (348, 287))
    text(root / "Br35H-Mask-RCNN" / "TRAIN" / "annotations_train.json", "{}")
    return Found({"br35": (3, 3)})


def lag(root: Path) -> Found:
    root = root / "LAG_database_part_1"
    for folder, count in (("non_glaucoma", 5), ("suspicious_glaucoma", 3)):
        for number in range(count):
            for kind in ("image", "attention_map"):
                image(root / folder / kind / f"{number:04}.jpg", (500, 500))
            text(root / folder / "label" / f"{number:04}.txt", "0")
    return Found({"LAG": (2, 3)}, 3)


def _polyp_zip(root: Path) -> None:
    """All sets of the zip that ColonDB and ClinicDB are in, with the same names and layout."""
    for name, size in (
        ("CVC-300", (574, 500)),
        ("CVC-ClinicDB", (384, 288)),
        ("CVC-ColonDB", (574, 500)),
        ("ETIS-LaribPolypDB", (1225, 966)),
        ("Kvasir", (622, 529)),
    ):
        for number in (1, 2, 10):
            stem = f"cju2rz4k434s7085{number}" if name == "Kvasir" else str(number)
            image(root / name / "images" / f"{stem}.png", size)
            mask(root / name / "masks" / f"{stem}.png", size)


def colondb(root: Path) -> Found:
    _polyp_zip(root / "Polyp DataSet")
    return Found({"colon": (0, 3)})


def clinicdb(root: Path) -> Found:
    """The original: two folders of .tif, one with a space in its name."""
    root = root / "CVC-ClinicDB"
    for number in (1, 2, 10, 11):
        image(root / "Original" / f"{number}.tif", (384, 288))
        mask(root / "Ground Truth" / f"{number}.tif", (384, 288))
    return Found({"colon": (0, 4)})


def kvasir(root: Path) -> Found:
    root = root / "Kvasir-SEG"
    for stem, size in (
        ("cju0qkwl35piu0993l0dewei2", (622, 529)),
        ("cju1", (332, 487)),
        ("cju10", (1920, 1072)),
    ):
        image(root / "images" / f"{stem}.jpg", size)
        mask(root / "masks" / f"{stem}.jpg", size)  # JPEG: its edges are grey
    text(root / "kavsir_bboxes.json", "{}")
    return Found({"colon": (0, 3)})


def endo(root: Path) -> Found:
    root = root / "EndoTect_2020_Segmentation_Test_Dataset"
    for stem in ("0ab1c2d3-0000-4a4a-9c9c-0123456789ab", "f0f1f2f3-1111-4b4b-8d8d-abcdef012345"):
        image(root / "images" / f"{stem}.jpg", (720, 576))
        mask(root / "masks" / f"{stem}.png", (720, 576))
    return Found({"colon": (0, 2)})


def isic(root: Path) -> Found:
    for number in (3, 12, 11402):
        stem = f"ISIC_{number:07}"
        image(root / "ISBI2016_ISIC_Part1_Test_Data" / f"{stem}.jpg", (1022, 767))
        mask(root / "ISBI2016_ISIC_Part1_Test_GroundTruth" / f"{stem}_Segmentation.png", (1022, 767))
    return Found({"skin": (0, 3)})


def tn3k(root: Path) -> Found:
    root = root / "tn3k"
    for part, count in (("trainval", 3), ("test", 2)):
        for number in range(count):
            image(root / f"{part}-image" / f"{number:04}.jpg", (421, 345))
            mask(root / f"{part}-mask" / f"{number:04}.jpg", (421, 345))
    text(root / "tn3k-trainval-fold0.json", "{}")
    text(root / "label4test.csv")
    return Found({"thyroid": (0, 2)})


RAW: dict[str, Callable[[Path], Found]] = {
    write.__name__: write
    for write in (
        *(mvtec, visa, mpdd, btad, sdd, aitex, elpv, dagm, dtd),
        *(headct, brainmri, br35h, lag, colondb, clinicdb, kvasir, endo, isic, tn3k),
    )
}
