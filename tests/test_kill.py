"""Killed processes: nothing outlives its parent, no lock outlives its owner, and waiting is not silent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest
from nbclient import NotebookClient

from fap_lib.core import files
from fap_lib.core.files import locked, whole_folder
from fap_lib.runs.notebook import SocketKernelManager

SECONDS = 60
"""To wait for another process at most; a test that passes needs a fraction of it."""


def start(code: str, *arguments: object) -> subprocess.Popen:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def alive(process: int) -> bool:
    """Whether a process runs; one that is only not yet collected by its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between opening and reading
        return False


def wait_until(true) -> None:
    for _ in range(SECONDS * 10):
        if true():
            return
        time.sleep(0.1)
    pytest.fail(f"waited {SECONDS} s in vain")


HOLD = """
import sys, time
from pathlib import Path
from fap_lib.core.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_waiting_says_for_whom_and_a_kill_frees_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    path = tmp_path / "lock"
    holder = start(HOLD, path)
    assert holder.stdout.readline() == "held\n"

    def say(text: str, **_) -> None:
        assert f"for process {holder.pid}, which holds {path};" in text
        assert f"`kill {holder.pid}` ends it" in text
        holder.kill()  # what the message advises, only harder

    monkeypatch.setattr("builtins.print", say)
    begun = time.monotonic()
    with locked(path):
        holder.wait()
        assert time.monotonic() - begun < SECONDS
    assert not path.exists()


def test_a_lock_left_to_a_child_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    path = tmp_path / "a lock"
    forked = "import os\n    child = os.fork()\n    if child: print(child, flush=True)"
    parent = start(HOLD.replace('print("held", flush=True)', forked), path)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    said = []

    def say(text: str, **_) -> None:
        said.append(text)
        os.kill(child, signal.SIGKILL)

    monkeypatch.setattr("builtins.print", say)
    with locked(path):
        pass
    assert f"a process that another left behind: it holds {path}" in said[0]
    assert f"`fuser -k '{path}'`" in said[0]


COUNT = """
import sys
from pathlib import Path
from fap_lib.core.files import locked
folder = Path(sys.argv[1])
for _ in range(40):
    with locked(folder / "lock"):
        number = int((folder / "count").read_text())
        (folder / "count").write_text(str(number + 1))
"""


def test_the_lock_file_is_removed_and_still_only_one_holds_it(tmp_path):
    (tmp_path / "count").write_text("0")
    counters = [start(COUNT, tmp_path) for _ in range(3)]
    assert [counter.wait(SECONDS) for counter in counters] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "120"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_folder_in_the_making_leaves_no_lock(tmp_path):
    with whole_folder(tmp_path / "made") as new:
        (new / "x").touch()
    with pytest.raises(ValueError, match="no"), whole_folder(tmp_path / "not made"):
        raise ValueError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


WORK = """
import os, time

def work(number):
    open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.pid"), "w").close()
    time.sleep(600)
"""


def test_workers_die_with_a_parent_that_was_killed(tmp_path, monkeypatch):
    (tmp_path / "sleeping.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    call = "from data_prep.workers import spread; import sleeping; "
    parent = start(call + "list(spread(sleeping.work, range(4), 'sleeping', 2))")
    wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert all(map(alive, workers))
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(alive, workers)))


def test_the_kernel_is_this_python_whatever_kernels_are_installed(tmp_path, monkeypatch):
    wrong = tmp_path / "kernels" / "python3"
    wrong.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Wrong", "language": "python"}
    (wrong / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    cell = nbformat.v4.new_code_cell("import sys; print(sys.executable)")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, kernel_name="python3", kernel_manager_class=SocketKernelManager).execute()
    assert cell.outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize("known", [True, False])
def test_a_kernel_needs_no_home_and_leaves_the_users_alone(tmp_path, monkeypatch, known):
    """A container's user has none, neither in HOME nor in the list of users."""
    startup = tmp_path / ".ipython" / "profile_default" / "startup" / "own.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("print('the user has this run in every IPython')")
    monkeypatch.setenv("HOME", str(tmp_path))
    if not known:
        monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("no home directory")))
        monkeypatch.delenv("HOME")
    cell = nbformat.v4.new_code_cell("import os; print(get_ipython().ipython_dir, os.environ['HOME'])")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, kernel_name="python3", kernel_manager_class=SocketKernelManager).execute()
    place, home = cell.outputs[0].text.split()
    assert not Path(place).exists(), "what a kernel needed is gone with it"
    assert home == (str(tmp_path) if known else place)
    assert [path.name for path in tmp_path.iterdir()] == [".ipython"]
