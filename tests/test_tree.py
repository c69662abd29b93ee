"""What every file of a folder is, by its path: trees as people and published datasets have them."""

import random
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from data_prep import tree
from fap_lib.core.errors import KitError

ROOT = Path("/data/x")


def read(*paths: str, photographs: str = ".jpg") -> tree.Account:
    """The account of a tree in which files of one stem are masks unless they are photographs."""
    kept = sorted(map(PurePosixPath, paths))
    return tree.account(ROOT, kept, lambda path: path.suffix not in photographs)


def lines(account: tree.Account) -> set[str]:
    """Each file used, as `SPLIT CATEGORY KIND IMAGE < MASKS`."""
    return {
        f"{image.split} {image.category} {image.kind or '?'} {image.path}"
        + (f" < {' '.join(image.masks)}" if image.masks else "")
        for image in account.images
    }


TREES: dict[str, tuple[str, str]] = {
    "MVTec AD": (
        "train/good/0.png test/good/0.png test/rust/0.png test/rust/1.png ground_truth/rust/0_mask.png",
        """train x good train/good/0.png
        test x good test/good/0.png
        test x rust test/rust/0.png < ground_truth/rust/0_mask.png
        test x rust test/rust/1.png""",
    ),
    "MVTec LOCO: a folder of masks for each image": (
        "train/good/0.png test/good/0.png test/bent/0.png test/bent/1.png "
        "ground_truth/bent/0/000.png ground_truth/bent/0/001.png ground_truth/bent/1/000.png",
        """train x good train/good/0.png
        test x good test/good/0.png
        test x bent test/bent/0.png < ground_truth/bent/0/000.png ground_truth/bent/0/001.png
        test x bent test/bent/1.png < ground_truth/bent/1/000.png""",
    ),
    "BTAD": (
        "01/train/ok/0.bmp 01/test/ok/0.bmp 01/test/ko/0.bmp 01/ground_truth/ko/0.png",
        """train 01 good 01/train/ok/0.bmp
        test 01 good 01/test/ok/0.bmp
        test 01 ko 01/test/ko/0.bmp < 01/ground_truth/ko/0.png""",
    ),
    "VisA": (
        "pcb/Data/Images/Normal/0.JPG pcb/Data/Images/Anomaly/0.JPG pcb/Data/Masks/Anomaly/0.png",
        """test pcb good pcb/Data/Images/Normal/0.JPG
        test pcb Anomaly pcb/Data/Images/Anomaly/0.JPG < pcb/Data/Masks/Anomaly/0.png""",
    ),
    "Magnetic Tile: image and mask of one stem": (
        "MT_Fray/Imgs/1.jpg MT_Fray/Imgs/1.png MT_Free/Imgs/2.jpg MT_Free/Imgs/2.png",
        """test MT_Fray ? MT_Fray/Imgs/1.jpg < MT_Fray/Imgs/1.png
        test MT_Free ? MT_Free/Imgs/2.jpg < MT_Free/Imgs/2.png""",
    ),
    "KolektorSDD": (
        "kos01/Part0.jpg kos01/Part0_label.bmp kos02/Part0.jpg kos02/Part0_label.bmp",
        """test kos01 ? kos01/Part0.jpg < kos01/Part0_label.bmp
        test kos02 ? kos02/Part0.jpg < kos02/Part0_label.bmp""",
    ),
    "DAGM": (
        "C1/Train/5.PNG C1/Train/6.PNG C1/Train/Label/5_label.PNG "
        "C1/Test/1.PNG C1/Test/2.PNG C1/Test/Label/1_label.PNG",
        """train C1 ? C1/Train/5.PNG < C1/Train/Label/5_label.PNG
        train C1 ? C1/Train/6.PNG
        test C1 ? C1/Test/1.PNG < C1/Test/Label/1_label.PNG
        test C1 ? C1/Test/2.PNG""",
    ),
    "AITEX: two numbered masks of one image": (
        "NODefect_images/231/0_000_01.png Defect_images/0_01.png Defect_images/1_002_00.png "
        "Mask_images/0_01_mask1.png Mask_images/0_01_mask2.png Mask_images/1_002_00_mask.png",
        """test x good NODefect_images/231/0_000_01.png
        test x defect Defect_images/0_01.png < Mask_images/0_01_mask1.png Mask_images/0_01_mask2.png
        test x defect Defect_images/1_002_00.png < Mask_images/1_002_00_mask.png""",
    ),
    "TN3K": (
        "trainval-image/0.jpg trainval-mask/0.jpg test-image/0.jpg test-mask/0.jpg",
        """train x ? trainval-image/0.jpg < trainval-mask/0.jpg
        test x ? test-image/0.jpg < test-mask/0.jpg""",
    ),
    "ISIC": (
        "ISBI_Test_Data/3.jpg ISBI_Test_GroundTruth/3_Segmentation.png",
        "test ISBI_Test_Data ? ISBI_Test_Data/3.jpg < ISBI_Test_GroundTruth/3_Segmentation.png",
    ),
    "ClinicDB": (
        "Original/1.tif Ground Truth/1.tif",
        "test x ? Original/1.tif < Ground Truth/1.tif",
    ),
    "normal ones and defects alone": (
        "OK/a.jpg scratch/b.jpg dent/b.jpg masks/scratch/b.png",
        """test x good OK/a.jpg
        test x scratch scratch/b.jpg < masks/scratch/b.png
        test x dent dent/b.jpg""",
    ),
    "masks above the kinds": (
        "good/a.jpg bent/b.jpg hole/c.jpg masks/b.png masks/c_gt.png",
        """test x good good/a.jpg
        test x bent bent/b.jpg < masks/b.png
        test x hole hole/c.jpg < masks/c_gt.png""",
    ),
    "a mask above the kinds is a defect's rather than a normal image's": (
        "good/0.jpg bent/0.jpg masks/0.png",
        """test x good good/0.jpg
        test x bent bent/0.jpg < masks/0.png""",
    ),
    "a mask of no part is of an image to test": (
        "train/0.jpg test/0.jpg masks/0.png",
        """train x good train/0.jpg
        test x ? test/0.jpg < masks/0.png""",
    ),
    "masks within the kinds": (
        "good/a.jpg bent/images/b.jpg bent/masks/b.png hole/c.jpg hole/c_mask.png",
        """test x good good/a.jpg
        test x bent bent/images/b.jpg < bent/masks/b.png
        test x hole hole/c.jpg < hole/c_mask.png""",
    ),
    "one folder of images of another name": (
        "photos/1.jpg masks/1.png",
        "test photos ? photos/1.jpg < masks/1.png",
    ),
    "categories within images and masks": (
        "images/nut/1.jpg images/bolt/1.jpg masks/nut/1.png masks/bolt/1.png",
        """test nut ? images/nut/1.jpg < masks/nut/1.png
        test bolt ? images/bolt/1.jpg < masks/bolt/1.png""",
    ),
    "parts above the categories": (
        "train/A/good/1.png test/A/good/2.png test/A/bent/3.png ground_truth/A/bent/3.png",
        """train A good train/A/good/1.png
        test A good test/A/good/2.png
        test A bent test/A/bent/3.png < ground_truth/A/bent/3.png""",
    ),
    "categories at different depths, and images in the root": (
        "0.png A/good/1.png A/bent/1.png B/camera1/good/1.png B/camera1/bent/1.png",
        """test x ? 0.png
        test A good A/good/1.png
        test A bent A/bent/1.png
        test B/camera1 good B/camera1/good/1.png
        test B/camera1 bent B/camera1/bent/1.png""",
    ),
    "what all categories share is not part of their names": (
        "set/raw/A/good/1.png set/raw/B/good/1.png",
        "test A good set/raw/A/good/1.png\ntest B good set/raw/B/good/1.png",
    ),
    "images alone, at any depth": (
        "1.png left/2.png left/deep/3.png",
        "test x ? 1.png\ntest left ? left/2.png\ntest left/deep ? left/deep/3.png",
    ),
    "a defect whose name has a word for masks": (
        "good/1.png missing_label/2.png",
        "test x good good/1.png\ntest x missing_label missing_label/2.png",
    ),
    "a part to train on without masks holds normal images": (
        "train/1.png test/good/2.png",
        "train x good train/1.png\ntest x good test/good/2.png",
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_all_files_of_these_trees_are_used(name):
    paths, expected = TREES[name]
    kept = paths.replace("Ground Truth", "Ground#Truth").split()
    account = read(*(path.replace("#", " ") for path in kept))
    assert lines(account) == {line.strip() for line in expected.splitlines()}
    assert account.unused == {}


@pytest.mark.parametrize(
    "folder",
    [
        *("labels", "label", "Annotations", "Ground Truth", "groundtruth", "ground-truth", "mask_images"),
        *("segmentation", "GT", "anomaly_masks", "part_masks", "test_mask"),
    ],
)
@pytest.mark.parametrize("end", ["", "_mask", "_label", "_gt", "_seg", "-mask", "_Segmentation"])
def test_folders_and_files_of_masks_by_their_usual_names(folder, end):
    mask = f"{folder}/bent/b{end}.png"
    account = read("test/good/a.png", "test/bent/b.png", mask)
    assert lines(account) == {"test x good test/good/a.png", f"test x bent test/bent/b.png < {mask}"}


def test_a_file_that_is_not_used_is_named_under_why():
    account = read(
        *("train/good/1.png", "train/bent/4.png", "test/good/3.png", "test/bent/4.png", "val/good/5.png"),
        *("val/bent/4.png", "ground_truth/bent/4.png", "ground_truth/bent/9.png", "ground_truth/good/3.png"),
        *("cover.png", "readme.txt", ".git", "test/bent/._4.png", "test/Thumbs.db", "val/masks/good/5.png"),
    )
    assert lines(account) == {
        "train x good train/good/1.png",
        "test x good test/good/3.png",
        "test x bent test/bent/4.png < ground_truth/bent/4.png",
    }
    assert account.unused == {
        tree.TRAINED: ["train/bent/4.png"],
        tree.VALIDATION: ["val/bent/4.png", "val/good/5.png", "val/masks/good/5.png"],
        tree.UNPAIRED: ["ground_truth/bent/9.png"],
        tree.OF_NORMAL: ["ground_truth/good/3.png"],
        tree.BESIDE: ["cover.png"],
        tree.NO_IMAGE: ["readme.txt"],
        tree.HIDDEN: [".git", "test/Thumbs.db", "test/bent/._4.png"],
    }


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("a.bmp a.png", r"a\.bmp and a\.png in /data/x have one stem; which one is a mask\?"),
        ("good/a.jpg good/a.png good/a.bmp", r"a\.bmp and a\.jpg and a\.png in /data/x/good have one stem"),
        (
            "images/a.jpg masks/a.png masks/a.bmp",
            "masks/a.bmp and masks/a.png in /data/x are both masks of im",
        ),
        ("images/a.jpg masks/a.png masks/a_mask.png", "are both masks of images/a.jpg; remove one"),
        ("a.jpg a_mask.png masks/a.png", "a_mask.png and masks/a.png in /data/x are both masks of a.jpg"),
        ("images/a.jpg masks/a_mask.png masks/a_mask1.png", "are both masks of images/a.jpg; remove one"),
        (
            "good/0.jpg bent/1.jpg hole/1.jpg masks/1.png",
            "masks/1.png in /data/x fits both bent/1.jpg and hole",
        ),
        (
            "a.jpg a_mask.png a_mask_gt.png",
            "a_mask_gt.png in /data/x could be a mask of another mask; rename",
        ),
        ("images/a.jpg masks/1.png", "no mask in /data/x/masks is called as an image"),
        (
            "test/good/a.jpg test/hole/a.jpg ground_truth/hole/1.png",
            "no mask in /data/x/ground_truth/hole is",
        ),
        (
            "labels/good/a.png labels/bent/b.png",
            "no mask in /data/x/labels .*, or the folder if they are none",
        ),
        ("good/a\nb.png", r"file name 'a\\nb.png' in /data/x has characters that cannot be printed"),
    ],
)
def test_files_that_contradict_each_other_are_refused(paths, message):
    with pytest.raises(KitError, match=message):
        read(*paths.split(" "))


def test_two_photographs_of_one_stem_are_two_images():
    """BrainMRI has `Y92.jpg` and `Y92.png`."""
    paths = ("good/Y92.jpg", "good/Y92.png")
    both = {"test x good good/Y92.jpg", "test x good good/Y92.png"}
    assert lines(read(*paths, photographs=".jpg .png")) == both
    for masks in ("good/Y92_mask.bmp", "masks/Y92.bmp"):
        with pytest.raises(KitError, match=r"Y92.*\.bmp in /data/x (could|fits).* .*Y92.jpg and .*Y92.png"):
            read(*paths, masks, photographs=".jpg .png")


def test_every_file_is_accounted_for_once():
    """In whatever a person may have; where it is refused, that says why."""
    chance = random.Random(0)
    folders = [
        "good",
        "bent",
        "test",
        "train",
        "masks",
        "Ground Truth",
        "A",
        "camera 1",
        "images",
        "val",
        ".x",
    ]
    names = ["0.png", "1.png", "0_mask.png", "0.jpg", "1_gt.bmp", "readme.md", "0_mask1.png"]
    counted = 0
    for _ in range(3000):
        paths = {
            "/".join([*chance.choices(folders, k=chance.randrange(4)), chance.choice(names)])
            for _ in range(chance.randrange(1, 9))
        }
        try:
            account = read(*paths)
        except KitError:
            continue
        used = [path for image in account.images for path in (image.path, *image.masks)]
        left = [path for paths_ in account.unused.values() for path in paths_]
        assert Counter(used + left) == Counter(paths)
        assert all(image.category and image.kind != "" for image in account.images)
        counted += 1
    assert counted > 1000


def test_all_files_below_a_folder(tmp_path):
    for name in ("b/1.png", "a.png", ".git/config", "b/.x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    assert list(map(str, tree.files(tmp_path))) == [
        ".git",
        "a.png",
        "b/.x.png",
        "b/1.png",
        "linked/.x.png",
        "linked/1.png",
    ]
