"""Worker processes are started from any script, also from one without `if __name__ == "__main__":`."""

import os
import subprocess
import sys

from fap_lib.core import paths

SCRIPT = """
import math
import os
os.cpu_count = lambda: 2
from data_prep.workers import each
print("started")
print(sum(each(math.isqrt, range(400), "roots")))
"""


def test_worker_processes_are_started_in_one_place():
    """`data_prep.workers`: they hide the script, die with their parent, and leave Ctrl-C to it."""
    starting = []
    for part in ("fap_lib", "data_prep", "pretraining", "benchmarks", "figures"):
        for path in (paths.REPOSITORY / part).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "ProcessPoolExecutor(" in text or "get_context(" in text:
                starting.append(path.relative_to(paths.REPOSITORY).as_posix())
    assert starting == ["data_prep/workers.py"]


def test_a_script_without_a_guard_starts_workers_and_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(paths.REPOSITORY)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    assert done.stdout.split() == ["started", str(sum(int(n**0.5) for n in range(400)))]


def test_a_module_that_runs_sends_its_own_functions(tmp_path):
    """`python -m`: in the processes the module has its own name and is not the script."""
    (tmp_path / "squares.py").write_text(
        "from functools import partial\n"
        "from data_prep.workers import spread\n"
        "def power(exponent, value):\n"
        "    return value**exponent\n"
        "if __name__ == '__main__':\n"
        "    print(list(spread(partial(power, 2), [1, 2, 3], 'squares', 2)))\n"
    )
    search = os.pathsep.join([str(tmp_path), str(paths.REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-m", "squares"],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[1, 4, 9]\n", done.stderr
