"""The three descriptions of the environment agree, and the lock is exact."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from fap_lib.core import paths

ROOT = paths.REPOSITORY


def declared() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    return {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, lines)}


def conda() -> tuple[dict[str, str], str]:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    found = {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, pip)}
    (python,) = [entry for entry in entries if isinstance(entry, str) and entry.startswith("python")]
    return found, python.removeprefix("python")


def locked() -> dict[str, set[str]]:
    """Versions per package; some differ between Python versions."""
    versions: dict[str, set[str]] = {}
    for line in paths.LOCK.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line)
            (exact,) = requirement.specifier
            assert exact.operator == "=="
            versions.setdefault(canonicalize_name(requirement.name), set()).add(exact.version)
    return versions


def test_conda_and_project_name_the_same_packages_and_versions():
    found, python = conda()
    assert found == declared()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert SpecifierSet(python) == SpecifierSet(project["requires-python"])


def test_every_dependency_has_its_reason():
    lines = [
        line for line in (ROOT / "environment.yml").read_text().splitlines() if line.startswith("      - ")
    ]
    assert len(lines) == len(declared())
    assert [line for line in lines if not re.search(r"  # \w", line)] == []


def test_the_lock_satisfies_the_project_and_names_no_address():
    versions = locked()
    for name, specifier in declared().items():
        assert versions[name], name
        assert all(version in SpecifierSet(specifier) for version in versions[name]), name
    assert "://" not in paths.LOCK.read_text()
    assert "--index" not in paths.LOCK.read_text()


HEAVY = "torch", "open_clip", "pandas", "matplotlib", "numpy", "scipy", "PIL", "tqdm"


def loaded(code: str) -> str:
    """Which of the slow packages a fresh Python has after `code`."""
    code += f"\nprint('loaded', [name for name in {HEAVY} if name in __import__('sys').modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_the_public_face_has_docstrings_and_is_fast():
    import fap_lib

    assert all(getattr(fap_lib, name).__doc__ for name in fap_lib.__all__)
    assert loaded("import fap_lib") == "loaded []"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--help", 0),
        ("score --help", 0),
        ("data list", 0),
        ("data show mvtec", 0),
        ("data show mvtek", 2),
        ("mini draw mini-tst", 2),
        ("scor", 2),
        ("data prepare mvtec --via carrier-pigeon", 2),
    ],
)
def test_help_lists_and_refusals_load_nothing_slow(command, status):
    code = f"""
from fap_lib.cli import main
status = None
try:
    status = main({command.split()})
except SystemExit as end:
    status = end.code
assert status == {status}, status
"""
    assert loaded(code) == "loaded []"
