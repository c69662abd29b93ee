"""The names a user imports are typed: a script over them passes `mypy --strict`."""

import ast
import subprocess
import sys
from pathlib import Path

import fap_lib
from fap_lib.core import paths

SCRIPT = Path(__file__).with_name("public_face.py")


def test_a_script_over_all_public_names_passes_mypy_strict():
    imported = {
        alias.name
        for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "fap_lib"
        for alias in node.names
    }
    assert imported == set(fap_lib.__all__)
    # A cache of its own: that of `make lint` is for other options.
    options = ["--strict", "--config-file=", "--cache-dir=.mypy_cache/strict"]
    command = [sys.executable, "-m", "mypy", *options, str(SCRIPT)]
    done = subprocess.run(command, cwd=paths.REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
