"""What results depend on in code, as a digest: when it changes, they are made again.

Prose does not count: comments and docstrings can change, and the digest stays.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fap_lib.core import paths

PACKAGES = ("fap_lib", "data_prep")


def fingerprint(sources: Iterable[str]) -> str:
    """Digest of code (a notebook's cells, a module) and of all modules of the kit that it reaches."""
    pieces = [_read(source) for source in sources]
    reached: dict[str, Code] = {}
    waiting = [name for piece in pieces for name in piece.imports]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached[name] = _read(_file(name).read_text(encoding="utf-8"))
            waiting += reached[name].imports
    return _digest([*pieces, *(reached[name] for name in sorted(reached))])


def own_fingerprint(sources: Iterable[str]) -> str:
    """Digest of code alone, without what it imports."""
    return _digest([_read(source) for source in sources])


@dataclass(frozen=True)
class Code:
    """A piece of code as far as results depend on it. tree: its syntax as text, without docstrings."""

    tree: str
    imports: tuple[str, ...]


# A plan asks for the fingerprints of dozens of jobs, which reach the same modules: each text is parsed once.
@cache
def _read(source: str) -> Code:
    tree = ast.parse(source)
    imports = tuple(dict.fromkeys(_imports(tree)))
    return Code(ast.dump(_without_docstrings(tree)), imports)


def _digest(pieces: list[Code]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.tree.encode())
    return digest.hexdigest()


def _file(name: str) -> Path:
    place = paths.REPOSITORY.joinpath(*name.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _imports(tree: ast.Module) -> Iterator[str]:
    """The kit's modules that a piece of code imports, at its top or inside functions."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from fap_lib.core import paths` names a module, `from fap_lib.core.paths import run` a part of
            # one, `from fap_lib import FAPrompt` a part of the module that the public face takes it from.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if node.module == "fap_lib":
                names += [face[alias.name] for alias in node.names if alias.name in (face := _face())]
        yield from (name for name in names if name.split(".")[0] in PACKAGES and _file(name).is_file())


@cache
def _face() -> dict[str, str]:
    """The names that `fap_lib` itself exports, and the module each comes from."""
    stub = ast.parse((paths.PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"fap_lib.{node.module}" for node in imports for alias in node.names}


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without strings that stand alone; nothing computes with them."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                part
                for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return tree
