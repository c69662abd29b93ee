"""A small grid for real: killed at random moments, completed, equal to the library, equal on SLURM."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from fap_lib.clip.backbone import load_backbone
from fap_lib.core import paths
from fap_lib.core.files import read_json
from fap_lib.data.features import features
from fap_lib.data.manifest import read_manifest
from fap_lib.evaluation.scoring import evaluate, score
from fap_lib.grids import snakemake
from fap_lib.grids.grid import load_grid
from fap_lib.grids.jobs import DONE
from fap_lib.grids.settings import presets, profile_of
from fap_lib.model import FAPrompt
from fap_lib.training import train

GRID = paths.WORKFLOW / "grids" / "ci.yaml"
LIMIT = 1200
"""Seconds after which a run counts as hanging; a busy machine may need many."""


pytestmark = pytest.mark.timeout(3 * LIMIT)


class Runs:
    """Runs of the grid in a home of its own."""

    def __init__(self, home: Path, engine: str):
        self.home = home
        self.engine = engine
        self.folder = home / "runs" / "grid-ci"
        self.environment = {**os.environ, "FAP_HOME": str(home), "OMP_NUM_THREADS": "1"}

    def start(self, *options: str, folder: Path | None = None) -> subprocess.Popen:
        command = [sys.executable, "-m", "fap_lib.cli", "paper", str(GRID), "--cores", "2"]
        command += ["--run", str(folder or self.folder), f"--snakemake={' '.join(options)}"]
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.home,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, *options: str, folder: Path | None = None) -> tuple[int, str]:
        """Run to the end; the exit status and what was said."""
        process = self.start(*options, folder=folder)
        said, _ = process.communicate(timeout=LIMIT)
        return process.returncode, said

    def processes(self, words: str = "") -> list[int]:
        """The runs' processes, those with `words` in their command: told by their environment."""
        mark = f"FAP_HOME={self.home}\0".encode()
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdigit() and int(place.name) != os.getpid():
                with contextlib.suppress(OSError):
                    command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if mark in (place / "environ").read_bytes() and words in command:
                        found.append(int(place.name))
        return found

    def kill(self, words: str = "") -> None:
        for process in self.processes(words):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def done(self) -> dict[str, int]:
        """When each finished job was finished."""
        return {
            str(mark.parent.relative_to(self.folder)): mark.stat().st_mtime_ns
            for mark in self.folder.rglob(DONE)
        }


@pytest.fixture(scope="module")
def runs(tmp_path_factory, engine) -> Runs:
    """A grid whose kernel, then whose job, then all of whose processes were killed, each at a random moment,
    and that was then completed."""
    if sys.platform != "linux":
        pytest.skip("finds processes in /proc")
    runs = Runs(tmp_path_factory.mktemp("grid") / "home", engine)
    runs.home.mkdir()
    seed = random.randrange(2**32)
    print(f"moments of the kills: seed {seed}")
    moments = random.Random(seed)
    process = runs.start()
    try:
        for victim in ("ipykernel_launcher", "fap_lib.grids.jobs", ""):
            if process.poll() is not None:
                process = runs.start()
            deadline = time.monotonic() + LIMIT
            while not runs.processes(victim or "fap_lib.grids.jobs") and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(moments.uniform(0, 8))
            runs.kill(victim)
        process.communicate(timeout=LIMIT)
        runs.before = runs.done()
        runs.status, runs.said = runs.finish()
        yield runs
    finally:
        runs.kill()


def test_a_killed_grid_completes_and_keeps_what_was_finished(runs):
    assert runs.status == 0, runs.said
    after = runs.done()
    kinds = [name.split("/")[0] for name in after]
    assert sorted(kinds) == ["evaluation"] * 2 + ["features"] * 2 + ["results", "training"]
    for name, when in runs.before.items():
        assert after[name] == when, f"{name} was finished and run again"


def planned(runs: Runs, folder: Path) -> list[str]:
    """What Snakemake, called as `fap paper` calls it, would make in a grid's folder as it is."""
    command = [runs.engine, *snakemake.engine_options(folder, 1, []), "-n"]
    shown = subprocess.run(
        command,
        env=runs.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )
    assert shown.returncode == 0, shown.stdout
    return sorted(
        line.split()[-1] for line in shown.stdout.splitlines() if line.strip().startswith("output:")
    )


def test_a_finished_grid_has_nothing_to_do_and_a_changed_record_runs_again(runs, tmp_path):
    assert planned(runs, runs.folder) == []
    copy = tmp_path / "grid"
    shutil.copytree(runs.folder, copy)
    for record in (copy / "jobs" / "training").rglob("*.json"):
        record.write_text(record.read_text().replace('"learning_rate": 0.002', '"learning_rate": 0.001'))
    changed = planned(runs, copy)
    assert [name.split("/")[0] for name in changed] == ["evaluation", "results", "training"]
    assert not any("untrained" in name for name in changed), "hand-written prompts do not depend on it"


def test_its_figures_are_the_librarys(runs, tmp_path, monkeypatch):
    """Killed or not, in jobs or not: one epoch of prompts on mini-a, tested on mini-organs."""
    monkeypatch.setenv("FAP_HOME", str(runs.home))
    profile = profile_of(load_grid(GRID), presets()["faprompt"], "paper", 0)
    backbone = load_backbone("mini")
    caches = [
        features(read_manifest(paths.dataset(name)), "test", backbone, profile.features)
        for name in ("mini-a", "mini-organs")
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        model = FAPrompt(backbone.text_tower, profile.model, backbone.patch_width)
        train(model, caches[0], profile.training, tmp_path)
        scores = score(model, caches[1], profile.scoring, tmp_path / "maps.npy")
    finally:
        torch.set_num_threads(threads)
    expected = {
        (r["category"], r["level"], r["metric"]): r["value"] for r in evaluate(scores, profile.scoring)
    }
    results = pd.read_csv(runs.folder / "results" / "results.csv")
    own = results[results["method"] == "faprompt"]
    assert len(own) == len(expected)
    for row in own.itertuples():
        assert row.value == pytest.approx(expected[row.category, row.level, row.metric], abs=1e-6)


def test_every_value_leads_to_its_run_and_every_file_is_there(runs):
    place = runs.folder / "results"
    results = pd.read_csv(place / "results.csv")
    assert set(results["method"]) == {"faprompt", "clip"}
    for row in results.itertuples():
        made = read_json(runs.folder / row.run / "run.json", "run manifest")
        assert made["data"]["name"] == row.dataset
        assert {"kit", "lock", "weights", "settings", "device", "seconds", "peak_memory_mb"} <= set(made)
    trained = results[results["method"] == "faprompt"].iloc[0]
    assert read_json(runs.folder / trained.training / "run.json", "run manifest")["seed"] == trained.seed == 0

    verdicts = pd.read_csv(place / "comparison.csv")
    assert set(verdicts["verdict"]) == {"not reported"}, "nobody reported on generated images"
    spent = pd.read_csv(place / "costs.csv")
    assert spent.iloc[-1]["jobs"] == 5
    assert spent.iloc[-1]["seconds"] == pytest.approx(spent.iloc[:-1]["seconds"].sum(), abs=0.5)
    page = (place / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page, "the page needs nothing from elsewhere"
    assert r"\toprule" in (place / "tables.tex").read_text()


@pytest.mark.skipif(
    not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"), reason="no SLURM here"
)
def test_slurm_gives_equal_results(runs, tmp_path):
    script = paths.WORKFLOW / "slurm" / "one-node.sh"
    started = subprocess.run(
        [script, "start", tmp_path / "slurm"], capture_output=True, text=True, timeout=120
    )
    try:
        assert started.returncode == 0, started.stderr
        runs.environment["SLURM_CONF"] = str(tmp_path / "slurm" / "slurm.conf")
        runs.environment["PATH"] = f"{tmp_path / 'slurm' / 'bin'}:{os.environ['PATH']}"
        profile = paths.WORKFLOW / "profiles" / "one-node"
        folder = runs.home / "runs" / "on-slurm"
        status, said = runs.finish("--profile", str(profile), folder=folder)
        assert status == 0, said
        assert "Submitted" in said or "submitted" in said, said
    finally:
        subprocess.run([script, "stop", tmp_path / "slurm"], check=True, timeout=120)
    local = pd.read_csv(runs.folder / "results" / "results.csv")
    cluster = pd.read_csv(folder / "results" / "results.csv")
    pd.testing.assert_frame_equal(local, cluster, check_exact=True)
