"""The table of mutants is up to date: each piece of code to be replaced still stands where it is sought."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "mutation" / "run.py"
SPEC = importlib.util.spec_from_file_location("mutation_run", FILE)
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)


@pytest.mark.parametrize("mutant", run.chosen([]), ids=lambda mutant: mutant["name"].replace(" ", "-"))
def test_a_mutant_changes_code_that_is_there(mutant):
    changed = run.mutated(mutant["file"], mutant["old"], mutant["new"])
    compile(changed, mutant["file"], "exec")
    for line in mutant["tests"]:
        for word in line.split():
            file, _, test = word.partition("::")
            if file.startswith("tests/"):
                assert f"def {test.split('[')[0]}" in (run.ROOT / file).read_text(encoding="utf-8"), word
