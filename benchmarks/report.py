"""From what `make bench` measured to tables; `benchmarks.pages` puts them into pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import feasible
from fap_lib.core.files import read_json, write_text

RESULTS = Path(__file__).parent / "results"
PROFILES = ("mini", "paper", "gpu")


def write_documents(folder: Path = RESULTS) -> None:
    """Write `PROFILE.md` beside each `PROFILE.json` in `folder`."""
    for profile, results in measured(folder).items():
        write_text(folder / f"{profile}.md", document(profile, results))


def measured(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The results of each profile that was measured."""
    paths = [folder / f"{profile}.json" for profile in PROFILES]
    return {path.stem: read_json(path, "table of figures") for path in paths if path.is_file()}


def document(profile: str, results: dict[str, Any]) -> str:
    """All tables of a profile."""
    absent = {"gpu", "summary"} | (set() if results.get("precision") else {"precision"})
    tables = ["gpu"] if profile == "gpu" else [name for name in TABLES if name not in absent]
    return (
        "\n\n".join([f"# make bench PROFILE={profile}", *(TABLES[name](results) for name in tables)]) + "\n"
    )


def tables(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Every table of every profile, as `PROFILE TABLE`; of a profile that was not measured, the word that it
    was not."""
    named = {}
    for profile in PROFILES:
        for name, table in TABLES.items():
            missing = f"Not yet measured: `make bench PROFILE={profile}`."
            fits = (name == "gpu") == (profile == "gpu")
            if fits:
                named[f"{profile} {name}"] = table(found[profile]) if profile in found else missing
    return named


def about(results: dict[str, Any]) -> str:
    """What was measured on what."""
    facts = results["about"]
    text = (
        f"{facts['backbone']} ({facts['weights']} weights) at {facts['image_size']} px; {facts['cpu']}, "
        f"{facts['threads']} of {facts['cores']} cores; torch {facts['torch']}; float32 unless a row says "
        "otherwise. Medians of 3 to 30 turns (a single one where it takes minutes), all ways of a row in "
        f"turns. The run took {facts['seconds'] / 60:.0f} minutes. "
    )
    rows = results.get("rows", [])
    if all(map(counted, rows)):
        text += "Targets are judged by processor seconds, which other programs on the machine hardly change. "
    else:
        text += (
            "**It counted no processor seconds**: targets are judged by wall time, on a machine that others "
            "used too, and a target met by little may be missed in the next run. "
        )
    loads = [facts["load_before"], *(row["load"] for row in rows if counted(row))]
    text += f"Load average: {facts['load_before']} before, at most {max(loads)} at the start of a row. "
    rates = ", ".join(f"{rate:.0f} in {name}" for name, rate in facts["gflops"].items())
    text += f"Matrix products ran at {rates} (GFLOP/s). "
    if slow := [name for name in facts["gflops"] if name not in feasible(facts["gflops"])]:
        text += f"Left out, targets included: ways in {' and '.join(slow)}, which have no units here. "
    return text + "Generated images and random features: no figure here says how good the method is."


def rows(results: dict[str, Any]) -> str:
    """The main table: each way against the first of its case."""
    lines = [
        "| | official order | this way | ratio | of processor time | target | of ceiling | GFLOP | peak, MB "
        "| difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for first, row in against_first(results["rows"]):
        label = f"{row['case']}: {row['way']}"
        cells = [
            label,
            f"{first['way']}: {time_of(first)}" if first["way"] != "official order" else time_of(first),
            time_of(row),
            f"{row['ratio']:.1f}",
            f"**{row['processor_ratio']:.1f}**{'*' if row['repeated'] else ''}" if counted(row) else "",
            verdict(row),
            shares(first, row),
            pair(first, row, lambda r: f"{r['gflop']:,.3g}" if r["gflop"] else ""),
            pair(first, row, lambda r: f"{r['peak_mb']:,.0f}"),
            f"{row['difference']:.0e}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(results: dict[str, Any]) -> str:
    """The rows that have a target."""
    lines = [
        "| | official order | kit | ratio of processor time | of wall time | target |",
        "|---|---|---|---|---|---|",
    ]
    for first, row in against_first(results["rows"]):
        name = f"{row['case']}: {row['way']}"
        if row["target"] is not None:
            spent = [
                f"{each['processor']:.3g} s" if counted(each) else time_of(each) for each in (first, row)
            ]
            ratio = f"**{row['processor_ratio']:.1f}**" if counted(row) else ""
            cells = [name, *spent, ratio, f"{row['ratio']:.1f}", verdict(row)]
            lines.append("| " + " | ".join(cells) + " |")
        if row["share_target"] is not None:
            lines.append(f"| {name}, share of the matrix-multiply ceiling | | | | | {shares(first, row)} |")
    return "\n".join([*lines, "", about(results)])


def against_first(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each way that is not its case's first, with that first."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["case"], row)
    return [(first[row["case"]], row) for row in rows if row is not first[row["case"]]]


def counted(row: dict[str, Any]) -> bool:
    """Whether a row has processor seconds; earlier runs had none."""
    return "processor" in row


def share(row: dict[str, Any]) -> float:
    """Counted work per second over the rate of the matrix product measured in the same turns."""
    return row["gflop"] / row["seconds"] / row["ceiling_gflops"]


def shares(first: dict[str, Any], row: dict[str, Any]) -> str:
    text = pair(first, row, lambda r: f"{share(r):.0%}" if r["gflop"] else "")
    if row["share_target"] is None:
        return text
    met = "met" if share(row) >= row["share_target"] else "**missed**"
    return f"{text} (≥ {row['share_target']:.0%}, {met})"


def pair(first: dict[str, Any], row: dict[str, Any], text: Callable[[dict[str, Any]], str]) -> str:
    before, after = text(first), text(row)
    return f"{before} → {after}" if before or after else ""


def verdict(row: dict[str, Any]) -> str:
    if row["target"] is None:
        return ""
    if row["processor_ratio" if counted(row) else "ratio"] >= row["target"]:
        return f"≥ {row['target']:g}, met"
    return f"≥ {row['target']:g}, **missed**" + (f": {row['why']}" if row["why"] else "")


def time_of(row: dict[str, Any]) -> str:
    seconds = row["seconds"]
    text = f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
    if row["images"]:
        text += f" ({row['images'] / seconds:.3g} images/s)"
    if row["megabytes"]:
        text += f" ({row['megabytes'] / 1000 / seconds:.2g} GB/s)"
    return text


def steps(results: dict[str, Any]) -> str:
    """One image, one step after the other."""
    lines = ["| step | time | gain of the step | in all | difference |", "|---|---|---|---|---|"]
    before = results["steps"][0]
    for row in results["steps"]:
        gain = f"{before['seconds'] / row['seconds']:.2f}"
        lines.append(
            f"| {row['way']} | {time_of(row)} | {gain} | {row['ratio']:.2f} | {row['difference']:.0e} |"
        )
        before = row
    return "\n".join(lines)


def memory(results: dict[str, Any]) -> str:
    """Peak memory when the dataset grows tenfold."""
    lines = ["| | images | features on disk, MB | peak memory, MB | growth |", "|---|---|---|---|---|"]
    for row in results["memory"]:
        images, cache, peak = (
            " → ".join(f"{v:,.0f}" for v in row[k]) for k in ("images", "cache_mb", "peak_mb")
        )
        met = "met" if row["growth"] < row["limit"] else "**missed**"
        growth = f"{row['growth']:+.1%} (below {row['limit']:.0%}: {met})"
        lines.append(f"| {row['job']} | {images} | {cache} | {peak} | {growth} |")
    return "\n".join(lines)


def precision(results: dict[str, Any]) -> str:
    """AUROC in lower precisions."""
    if {row["precision"] for row in results["precision"]} == {"float32"}:
        return "Not yet measured: the last run's processor has no units for bfloat16 or float16."
    lines = [
        "| model and data | precision | image AUROC | pixel AUROC | change, points | |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["precision"]:
        worst = max(abs(value) for value in row["change"].values())
        change = ", ".join(f"{row['change'][level]:+.3f}" for level in ("image", "pixel"))
        met = "" if row["precision"] == "float32" else "met" if worst <= row["limit"] else "**missed**"
        lines.append(
            f"| {row['model']}, {row['images']} images | {row['precision']} | {row['auroc']['image']:.2f} | "
            f"{row['auroc']['pixel']:.2f} | {change if met else ''} | {met} |"
        )
    return "\n".join(lines)


def gpu(results: dict[str, Any]) -> str:
    """The GPU's figures, or that there are none yet."""
    name = results["about"]["gpu"] or "no GPU was at hand"
    lines = [f"| {name} | measured | target | |", "|---|---|---|---|"]
    for what, value in results["figures"].items():
        target, unit = results["targets"].get(what, (None, ""))
        most = unit in ("s", "GB", "min")
        cells = [what, "not yet measured", "", ""]
        if isinstance(value, str):
            cells[1] = value
        elif value is not None:
            cells[1] = f"{value:,.3g} {unit}".strip()
        if target is not None:
            cells[2] = f"{'at most' if most else 'at least'} {target:g} {unit}"
            if value is not None:
                cells[3] = "met" if (value <= target) == most or value == target else "**missed**"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "about": about,
    "summary": summary,
    "rows": rows,
    "steps": steps,
    "memory": memory,
    "precision": precision,
    "gpu": gpu,
}
