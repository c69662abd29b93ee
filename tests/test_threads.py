"""How a process of the kit starts: with threads that fit the machine, and without what it has no use for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fap_lib.core import threads

START = """
import json, os, sys
import fap_lib
settled = {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
assert "torch" not in sys.modules
import fap_lib.evaluation.scoring, fap_lib.evaluation.patches, fap_lib.training, torch
print(json.dumps({**settled, "torch": torch.get_num_threads(), "modules": sorted(sys.modules)}))
"""


def started(**settings: str) -> dict:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    command = [sys.executable, "-c", START]
    return json.loads(subprocess.run(command, env=environment | settings, stdout=-1, check=True).stdout)


def test_a_process_settles_its_threads_before_torch_reads_them():
    found = started()
    assert found["OMP_WAIT_POLICY"] == "PASSIVE"
    assert found["torch"] == int(found["OMP_NUM_THREADS"]) <= max(1, threads.cores())
    # A second each, in every step of a run.
    assert not {"sklearn", "pandas", "matplotlib"} & set(found["modules"])


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(threads, "cores", lambda: 3.5)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads.settle()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["OMP_NUM_THREADS"]) == ("ACTIVE", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads.settle()
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_after_torch_was_imported_nothing_changes(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads.settle()
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(("allowed", "expected"), [(2, "2"), (1.5, "1"), (0.5, "1")])
def test_threads_are_the_whole_cores_that_are_allowed_and_never_none(monkeypatch, allowed, expected):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(threads, "cores", lambda: allowed)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads.settle()
    assert os.environ["OMP_NUM_THREADS"] == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000"}, 6),
        ({"cpu.max": "250000 100000"}, 2.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu.max": "6400000 100000"}, 6),
    ],
)
def test_a_control_groups_share_counts(tmp_path: Path, monkeypatch, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert threads.cores(tmp_path) == expected
