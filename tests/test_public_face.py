"""The script by which `make lint` checks the types of public names holds all of them."""

import ast
import tomllib
from pathlib import Path

import fap_lib
from fap_lib.core import paths

SCRIPT = Path(__file__).with_name("public_face.py")


def test_the_script_that_is_checked_strictly_imports_all_public_names():
    imported = {
        alias.name
        for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "fap_lib"
        for alias in node.names
    }
    assert imported == set(fap_lib.__all__)
    project = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert str(SCRIPT.relative_to(paths.REPOSITORY)) in project["tool"]["mypy"]["files"]
