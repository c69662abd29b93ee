"""The 19 layouts on trees with the published names and counts (`published.yaml`); their files are empty."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from data_prep import pieces, workers
from data_prep.layouts import Splits
from data_prep.locate import raw_root
from data_prep.registry import DATASETS
from fap_lib.core.config import load_yaml

PUBLISHED: dict[str, Any] = load_yaml(Path(__file__).with_name("published.yaml"), "list of downloads")
AITEX_CODES = ("002", "006", "010", "016", "019", "022", "023", "025", "027", "029", "030", "036")


def touch(root: Path, names: Iterable[str]) -> None:
    """Empty files, in an order that is not their names'."""
    order = sorted(names)
    random.Random(0).shuffle(order)
    for folder in {(root / name).parent for name in order}:
        folder.mkdir(parents=True, exist_ok=True)
    for name in order:
        (root / name).touch()


def write(path: Path, lines: Iterable[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(end.join([*lines, ""]), newline="")


def mvtec(root: Path, facts: dict[str, Any]) -> None:
    good = facts.get("good", "good")
    for category, (train, normal, defects) in facts["categories"].items():
        suffixes = facts.get("suffixes", {}).get(category)
        image, mask = (
            str(Path(form).with_suffix(suffix)) if suffixes else form
            for form, suffix in zip((facts["image"], facts["mask"]), suffixes or ("", ""), strict=True)
        )
        names = [f"train/{good}/{image.format(number)}" for number in range(train or 3)]
        names += [f"test/{good}/{image.format(number)}" for number in range(normal)]
        for kind, count in defects.items():
            for number in range(count):
                names += [f"test/{kind}/{image.format(number)}", f"ground_truth/{kind}/{mask.format(number)}"]
        touch(root / category, [*names, "license.txt", "readme.txt", "test/Thumbs.db"])


def visa(root: Path, facts: dict[str, Any]) -> None:
    rows = ["object,split,label,image,mask"]
    for category, (train, normal, defects) in facts["categories"].items():
        data = f"{category}/Data"
        for number in range(train + normal):
            split = "train" if number < train else "test"
            rows.append(f"{category},{split},normal,{data}/Images/Normal/{number:04}.JPG,")
        for number in range(defects["anomaly"]):
            pair = f"{data}/Images/Anomaly/{number:03}.JPG,{data}/Masks/Anomaly/{number:03}.png"
            rows.append(f"{category},test,anomaly,{pair}")
    write(root / "split_csv" / "1cls.csv", rows)


def dagm(root: Path, facts: dict[str, Any]) -> None:
    for category, (trained, normal, defects) in facts["categories"].items():
        count = normal + defects["defect"]  # Train and Test are of one size
        for part, first, anomalous in (("Test", 1, defects["defect"]), ("Train", count + 1, trained)):
            chosen = set(random.Random(category).sample(range(count), anomalous))
            lines, names = ["1"], ["Thumbs.db", "Label/Thumbs.db"]
            for index in range(count):
                stem, label = f"{first + index:04}", int(index in chosen)
                own = f"{stem}_label.PNG" if label else "0"
                names += [f"{stem}.PNG", f"Label/{own}"] if label else [f"{stem}.PNG"]
                lines.append(f"{stem}\t{label}\t{stem}.PNG\t{label}\t{own}")
            touch(root / category / part, names)
            write(root / category / part / "Label" / "Labels.txt", lines, "\r\n")


def sdd(root: Path, facts: dict[str, Any]) -> None:
    places = list(itertools.product(range(1, 51), range(8)))[: facts["strips"][0]]
    stems = [f"kos{folder:02}/Part{number}" for folder, number in places]
    touch(root, [f"{stem}{end}" for stem in stems for end in (".jpg", "_label.bmp")])


def aitex(root: Path, facts: dict[str, Any]) -> None:
    normal, defective = facts["strips"]
    touch(root, [f"NODefect_images/23{n % 7}-21u/{n:04}_000_0{n % 7}.png" for n in range(normal)])
    codes = itertools.cycle(AITEX_CODES)
    stems = [f"{n:04}_{next(codes)}_03" for n in range(defective - 3)]
    names = [f"Mask_images/{stem}_mask.png" for stem in stems]
    for stem in ("0144_019_04", "0197_030_03"):  # two masks each
        names += [f"Mask_images/{stem}_mask{n}.png" for n in (1, 2)]
        stems.append(stem)
    stems.append("0100_025_08")  # none
    touch(root, names + [f"Defect_images/{stem}.png" for stem in stems])


def elpv(root: Path, facts: dict[str, Any]) -> None:
    cells = [
        (chance, kind)
        for chance, kinds in facts["cells"].items()
        for kind, count in kinds.items()
        for _ in range(count)
    ]
    random.Random(0).shuffle(cells)
    rows = [f"images/cell{n:04}.png  {chance}    {kind}" for n, (chance, kind) in enumerate(cells, 1)]
    write(root / "labels.csv", rows)
    touch(root, [row.split()[0] for row in rows])


def headct(root: Path, facts: dict[str, Any]) -> None:
    ((_, normal, defects),) = facts["categories"].values()
    ill = defects["hemorrhage"]
    touch(root, [f"head_ct/head_ct/{number:03}.png" for number in range(ill + normal)])
    rows = [f"{number},{int(number < ill)}" for number in range(ill + normal)]
    write(root / "labels.csv", ["id, hemorrhage", *rows])


def folders(root: Path, facts: dict[str, Any]) -> None:
    ((_, normal, defects),) = facts["categories"].values()
    for folder, (kind, *forms) in facts["folders"].items():
        count = normal if kind == "good" else defects[kind]
        touch(root / folder, (form.format(n) for n, form in zip(range(count), itertools.cycle(forms))))
    touch(root, (form.format(n) for form in facts.get("others", ()) for n in range(60)))


def lag(root: Path, facts: dict[str, Any]) -> None:
    for part, count in facts["parts"].items():
        for kind, suffix in (("image", "jpg"), ("attention_map", "jpg"), ("label", "txt")):
            touch(root / part / kind, (f"{number:04}.{suffix}" for number in range(count)))


def pairs(root: Path, facts: dict[str, Any]) -> None:
    ((_, _, defects),) = facts["categories"].values()
    for folder, form in zip(facts["folders"], (facts["image"], facts["mask"]), strict=True):
        touch(root / folder, (form.format(7 * number) for number in range(*defects.values())))
    touch(root, (form.format(n) for form in facts.get("others", ()) for n in range(100)))


WRITE: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    each.__name__: each for each in (mvtec, visa, dagm, sdd, aitex, elpv, headct, folders, lag, pairs)
}


@pytest.fixture
def flags(monkeypatch) -> None:
    """Cut datasets by name: which squares or thirds of a strip are anomalous without looking at pixels."""
    seen: Counter[str] = Counter()

    def anomalous(strip) -> list[bool]:
        seen[strip.defect] += 1
        if "kos" in strip.name:  # 52 strips with a defect; in two of them it goes through two thirds
            order = seen["defect"]
            return [order <= 2, order <= 52, False]
        count = 0 if strip.defect == "good" else 1 + (sum(seen.values()) - seen["good"] <= 183 - 104)
        return [True] * count + [False] * (16 - count)

    monkeypatch.setattr(pieces, "anomalous", anomalous)
    monkeypatch.setattr(pieces, "save", lambda *_: None)
    monkeypatch.setattr(workers, "each", lambda function, jobs, _: list(map(function, jobs)))


def splits_of(name: str, folder: Path) -> Splits:
    facts, entry = PUBLISHED[name], DATASETS[name]
    place = folder / name / facts.get("root", "")
    WRITE[facts["like"]](place, facts)
    root = raw_root(entry, folder / name)
    if entry.cut:
        return entry.cut(root, entry.categories, folder / "cut")
    assert entry.layout is not None
    return entry.layout(root, entry.categories)


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("name", DATASETS)
def test_the_layout_finds_what_was_published(name, tmp_path):
    facts, entry = PUBLISHED[name], DATASETS[name]
    splits = splits_of(name, tmp_path)
    tested = Counter((record.category, record.defect) for record in splits["test"])
    for category, (_, normal, defects) in facts["categories"].items():
        assert tested[category, "good"] == normal
        assert {kind: tested[category, kind] for kind in defects} == defects
    assert {category for category, _ in tested} == set(entry.categories) == set(facts["categories"])
    labels = Counter(record.label for record in splits["test"])
    assert (labels[0], labels[1]) == entry.total
    for category, expected in entry.counts.items():
        kinds = {kind: count for (name_, kind), count in tested.items() if name_ == category}
        assert expected in (None, (kinds.get("good", 0), sum(kinds.values()) - kinds.get("good", 0)))
    if entry.train is not None:
        assert len(splits.get("train", [])) == entry.train

    records = [record for each in splits.values() for record in each]
    assert len({record.image for record in records}) == len(records), "no image twice"
    masks = [record.mask for record in records if record.mask]
    assert len(set(masks)) == len(masks), "no mask of two images"
    for record in records:
        assert record.label == (record.defect != "good")
        assert (record.mask is not None) == (entry.masks and record.label == 1)
        if record.mask:
            stem = Path(record.image).stem
            assert Path(record.mask).stem in {stem, f"{stem}_mask", f"{stem}_label", f"{stem}_Segmentation"}


def test_the_facts_agree_with_themselves():
    assert set(PUBLISHED) == set(DATASETS)
    for name, facts in PUBLISHED.items():
        defects = sum(sum(kinds.values()) for _, _, kinds in facts["categories"].values())
        normal = sum(count for _, count, _ in facts["categories"].values())
        assert (normal, facts.get("anomalous", defects)) == DATASETS[name].total, name
