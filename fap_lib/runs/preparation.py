"""The one door to `data_prep` and `pretraining`: datasets that are generated, or made from raw downloads.

Nothing else in `fap_lib` imports `data_prep`, and imports happen at the first use, so that what asks for a
dataset's name alone stays fast.
"""

import argparse
from pathlib import Path

from fap_lib.core import arguments, paths
from fap_lib.core.errors import KitError
from fap_lib.data.manifest import Manifest, MaskRule, Record, read_manifest


def known() -> list[str]:
    """Names of all datasets the kit can prepare or draw."""
    from data_prep.mini.sets import SETS
    from data_prep.registry import DATASETS

    return [*DATASETS, *SETS]


def is_generated(name: str) -> bool:
    """Whether `name` is a set of the mini world, which is drawn and never downloaded."""
    from data_prep.mini.sets import is_generated

    return is_generated(name)


def draw(name: str, folder: Path | None = None) -> Manifest:
    """The generated dataset `name`, drawn now unless it is there; by default below `data/`."""
    from data_prep.mini.benchmark import generate

    return generate(folder or paths.data() / name, name)


def locate(name: str, data: Path) -> Path:
    """The prepared dataset `name`: in `data`, or prepared now from a raw download in `data`.

    Generated datasets (`mini-test`) need no download and no folder.

    Raises:
        KitError: no such folder, or a dataset that cannot be prepared.
    """
    from data_prep.prepare import prepare

    if is_generated(arguments.name(name)):
        return draw(name).root
    data = arguments.folder(data)
    if (data / name / "meta.json").is_file():
        return data / name
    return prepare(name, data).root


def check_job(train: str | None, tests: list[str], data: Path) -> None:
    """Refuse to train and test on datasets that cannot be had or tell nothing; this takes no time.

    Args:
        train: what the prompts are learned on; None where they are there and do not say it.

    Raises:
        KitError: no test dataset, one that the prompts were learned on, or an unknown name.
    """
    from data_prep.registry import find

    if not tests:
        raise KitError("no test dataset was named; name one or more, separated by commas.")
    for name in tests if train is None else (train, *tests):
        if not is_generated(arguments.name(name)) and not (data / name / "meta.json").is_file():
            find(name)
    if train in tests:
        raise KitError(f"{train} is among the datasets its own prompts are tested on; take it out.")


def own_images(folder: Path) -> tuple[list[Record], MaskRule]:
    """The images to score in a folder of one's own, with labels and masks where its form says them; and how
    its masks are read.

    Files that are not used are named on stderr.

    Raises:
        KitError: there are none; says what was expected.
    """
    from data_prep.own import in_place

    return in_place(folder)


def test_images(name: str) -> int:
    """How many test images a dataset has: prepared, or by its protocol."""
    from data_prep.mini import benchmark
    from data_prep.registry import DATASETS

    folder = paths.dataset(name)
    if (folder / "meta.json").is_file():
        return len(read_manifest(folder).splits.get("test", []))
    if is_generated(name):
        base, draw, _ = benchmark.parse(name)
        return sum(image[1] == "test" for image in benchmark.plan(base, draw))
    return sum(DATASETS[name].total) if name in DATASETS else 0


def advice(name: str) -> str:
    """How to get a dataset that is not prepared."""
    from data_prep.download import how
    from data_prep.registry import find

    return how(find(name))


def differing(manifest: Manifest) -> str:
    """What of a prepared dataset is not as its protocol says; empty where all is, or no protocol is known."""
    from data_prep.check import counts
    from data_prep.registry import DATASETS

    rows = [row for row in counts(manifest, DATASETS.get(manifest.name)) if row.differs]
    return "; ".join(f"{row.what} {row.found} instead of {row.expected}" for row in rows)


def in_dataset(image: str) -> Path:
    """The path of an image inside its own folder, without the name of the link that a dataset keeps to it."""
    from data_prep.prepare import RAW

    path = Path(image)
    return path.relative_to(RAW) if path.parts[0] == RAW else path


def captions() -> list[tuple[str, str]]:
    """Sentences in the grammar of the mini world's captions, each with what it is about."""
    from data_prep.mini.captions import sentences

    return sentences()


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `fap data` and `fap mini`."""
    from data_prep import cli as data
    from data_prep.mini import cli as mini
    from pretraining import cli as pretraining

    data.add_commands(commands)
    pretraining.add_commands(mini.add_commands(commands))
