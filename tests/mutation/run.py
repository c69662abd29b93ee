"""Do the tests notice? Each mutant is one small mistake in the code, with which a test must fail.

    python tests/mutation/run.py [WORD ...]

Without words all mutants of `mutants.yaml`, with words those whose file or name holds one of them. The files
on disk stay as they are: a mutant lives in the memory of a forked process. No part of `make test`.
"""

import importlib
import importlib.machinery
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("mutants.yaml")
LIMIT = 300
"""Seconds after which a mutant counts as noticed: the tests end without it."""

OUTCOMES = {0: "SURVIVED", 1: "noticed", -signal.SIGALRM: "noticed: the tests do not end"}

HEAVY = ("torch", "open_clip", "scipy.stats", "sklearn.metrics", "hypothesis", "pandas", "skimage.measure")
"""Imported once, before the forks."""


class Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module with one piece of its source replaced."""

    def __init__(self, name: str, path: str, source: str):
        super().__init__(name, path)
        self.source = source

    def get_code(self, _: str) -> Any:
        return compile(self.source, self.path, "exec")


class Finder:
    """Finds the mutated module before anybody else does."""

    def __init__(self, file: str, source: str):
        self.name = file.removesuffix(".py").replace("/", ".")
        self.path, self.source = str(ROOT / file), source

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        loader = Mutated(name, self.path, self.source)
        return importlib.machinery.ModuleSpec(name, loader, origin=self.path)


def mutated(file: str, old: str, new: str) -> str:
    """The source of `file` with `old`, which must stand in it once, replaced."""
    source = (ROOT / file).read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise SystemExit(f"{file}: {source.count(old)} times in it, and not once:\n{old}")
    return source.replace(old, new)


def outcome(tests: list[str], finder: Finder | None) -> int:
    """Exit status of the tests in a process of their own; minus the signal's number where one ended it."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        if finder is not None:
            sys.meta_path.insert(0, finder)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
        os._exit(pytest.main([*options, *tests]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def chosen(words: list[str]) -> list[dict[str, Any]]:
    """The mutants of the table, each with its file and the tests that must notice it."""
    found = []
    for group in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        for name, (old, new) in group["mutants"].items():
            if not words or any(word in f"{group['file']} {name}" for word in words):
                found.append(
                    {"name": name, "file": group["file"], "tests": group["tests"], "old": old, "new": new}
                )
    return found


def main(words: list[str]) -> int:
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    mutants = chosen(words)
    finders = [Finder(each["file"], mutated(each["file"], each["old"], each["new"])) for each in mutants]
    for name in HEAVY:
        importlib.import_module(name)
    start, survivors, sound = time.monotonic(), [], set()
    for each, finder in zip(mutants, finders, strict=True):
        tests = [part for line in each["tests"] for part in line.split()]
        if str(tests) not in sound and outcome(tests, None) != 0:
            raise SystemExit(f"these tests fail without any mutant: {' '.join(tests)}")
        sound.add(str(tests))
        status = outcome(tests, finder)
        said = OUTCOMES.get(status, f"noticed: the tests cannot run (status {status})")
        print(f"{said:10} {each['file']}: {each['name']}", flush=True)
        if status == 0:
            survivors.append(f"{each['file']}: {each['name']}")
    print(f"{len(mutants)} mutants, {len(survivors)} survived, {time.monotonic() - start:.0f} s")
    for name in survivors:
        print(f"  {name}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
