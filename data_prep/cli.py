"""`fap data`: list, show, prepare and check datasets, and make one of a folder."""

import argparse

from fap_lib.core import arguments
from fap_lib.core.errors import KitError

WORDS = {"nonzero": "above 0", "half": "above half of their range"}
_SHOWN = 20  # problems; the others are counted


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `data` and its subcommands to the `fap` parser."""
    data = commands.add_parser(
        "data", help="prepare datasets", examples=("fap data list", "fap data prepare --help")
    ).add_subparsers(required=True, metavar="ACTION")
    data.add_parser("list", help="the known datasets", examples=("fap data list",)).set_defaults(run=_list)

    show = data.add_parser("show", help="all about one dataset", examples=("fap data show visa",))
    show.add_argument("name", type=arguments.name, metavar="NAME", help="one of `fap data list`")
    show.set_defaults(run=_show)

    prepare_ = data.add_parser(
        "prepare",
        help="download and prepare a dataset, or prepare what you downloaded",
        examples=(
            "fap data prepare visa",
            "fap data prepare mvtec --from downloads/mvtec_anomaly_detection.tar.xz",
        ),
    )
    prepare_.add_argument("name", type=arguments.name, metavar="NAME", help="one of `fap data list`")
    prepare_.add_argument(
        "--from",
        dest="source",
        type=arguments.source,
        metavar="PATH",
        help="your download: archive or folder (default: downloaded now, where that is allowed)",
    )
    prepare_.add_argument(
        "--via",
        choices=("kagglehub", "gdown"),
        help="download from Kaggle or Google Drive (default: from its own site)",
    )
    prepare_.add_argument(
        "--to", type=arguments.new_folder, metavar="FOLDER", help="prepared folder (default: data/NAME)"
    )
    prepare_.set_defaults(run=_prepare, resumes=True)

    check_ = data.add_parser(
        "check", help="compare a prepared dataset with what it should be", examples=("fap data check visa",)
    )
    check_.add_argument("name", metavar="NAME", help="its name, or its folder")
    check_.set_defaults(run=_check)

    folder = data.add_parser(
        "folder",
        help="make a dataset of a folder of your images",
        examples=("fap data folder photos/", "fap data folder photos/ --name bottles"),
    )
    folder.add_argument("path", type=arguments.folder, metavar="FOLDER", help="a folder with images")
    folder.add_argument(
        "--name", type=arguments.name, metavar="NAME", help="its name (default: the folder's)"
    )
    folder.add_argument(
        "--to", type=arguments.new_folder, metavar="FOLDER", help="prepared folder (default: data/NAME)"
    )
    folder.set_defaults(run=_folder)


def _list(_: argparse.Namespace) -> None:
    from data_prep.mini.sets import SETS
    from data_prep.registry import DATASETS
    from fap_lib.core import paths

    row = "{:9} {:10} {:>7} {:>9}  {:15} {:8} {}".format
    print(row("name", "domain", "normal", "anomalous", "metrics", "prepared", "title"))
    for entry in DATASETS.values():
        here = "yes" if (paths.data() / entry.name / "meta.json").is_file() else "no"
        print(row(entry.name, entry.domain, *entry.total, entry.metrics, here, entry.title))
    print(f"generated, by `fap mini draw NAME`: {', '.join(SETS)}")


def _show(chosen: argparse.Namespace) -> None:
    from data_prep.download import how
    from data_prep.registry import find

    entry = find(chosen.name)
    archives = [f"{archive.name} (SHA-256 {archive.sha256 or 'not known'})" for archive in entry.archives]
    facts = {
        "source": entry.source,
        "terms": entry.terms,
        "cite": entry.citation,
        "get it": how(entry),
        "archives": ", ".join(archives),
        "raw layout": entry.raw,
        "protocol": entry.protocol,
        "notes": entry.notes,
        "metrics": entry.metrics,
        "masks": f"anomalous {WORDS[entry.mask_rule]}" if entry.masks else "none exist",
        "official code": f"--dataset {entry.loader}, categories {', '.join(entry.categories)}",
    }
    print(f"{entry.name}: {entry.title} ({entry.domain})")
    for title, text in facts.items():
        if text:
            print(f"  {title:14}{text}")
    print("  expected      test normal, test anomalous")
    for category, expected in [*entry.counts.items(), ("all", entry.total)]:
        print(
            f"    {category:16}"
            + ("{:6} {:6}".format(*expected) if expected else "  not stated by any source")
        )
    print(
        f"    {'train images':16}"
        + (f"{entry.train:6}" if entry.train is not None else "  not stated by any source")
    )


def _prepare(chosen: argparse.Namespace) -> None:
    from data_prep.prepare import prepare

    if chosen.source and chosen.via:
        raise KitError("--from names what you have and --via downloads it; give one of them.")
    manifest = prepare(chosen.name, chosen.source, chosen.to, chosen.via)
    labels = [record.label for record in manifest.records("test")]
    print(f"{manifest.name}: {labels.count(0)} normal, {labels.count(1)} anomalous in {manifest.root}")


def _check(chosen: argparse.Namespace) -> int:
    from data_prep.check import check, table
    from fap_lib.core import paths
    from fap_lib.data.manifest import read_manifest

    report = check(read_manifest(paths.dataset(chosen.name)))
    print(table(report.rows))
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems[:_SHOWN]:
        print(f"problem: {problem}")
    if len(report.problems) > _SHOWN:
        print(f"and {len(report.problems) - _SHOWN} more problems.")
    print("check passed" if report.passed else "check FAILED")
    return 0 if report.passed else 1


def _folder(chosen: argparse.Namespace) -> None:
    from data_prep.own import describe, own

    manifest = own(chosen.path, chosen.name, chosen.to)
    tested = manifest.records("test")
    print(describe(manifest))
    if any(record.mask for record in tested):
        print(f"Masks are anomalous {WORDS[manifest.mask_rule]}.")
    if any(record.label is None for record in tested):
        print(
            "Unlabelled images get scores and no metrics. To label: put normal images in a subfolder `good`."
        )
    print(f"{manifest.name} is written to {manifest.root}")
