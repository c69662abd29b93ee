"""YAML as the kit reads it: plain values under text keys, of bounded size and depth."""

import os
from pathlib import Path
from typing import Any

import yaml

from fap_lib.core.errors import KitError, shown

SIZE = 1 << 20
"""Bytes of a file of settings."""

DEPTH = 20
"""Values inside values."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases (a short file can stand for billions of values), without dates (a
    name like 2024-01-01 is text) and without keys that are no text or stand there twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name), which is not allowed; write the value out")
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.YAMLError(f"it is nested more than {DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if not isinstance(name, str):
                raise yaml.YAMLError(f"the key {shown(name)} is no text; put it between quotes")
            if names.count(name) > 1:
                raise yaml.YAMLError(f"the key {shown(name)} is there twice")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """A YAML file as a dictionary; `what` names it in the message.

    Raises:
        KitError: the file is missing, too large, no YAML of the kind above, or not a mapping.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(SIZE + 1)
        if len(content) > SIZE:
            raise yaml.YAMLError(f"it is larger than {SIZE >> 20} MB")
        values = yaml.load(content.decode(), _Loader)
    except FileNotFoundError as error:
        raise KitError(f"there is no {what} at {Path(path)}.") from error
    except Exception as error:  # whatever the parser stumbles over, the file is not one
        said = " ".join(str(error).split()) or type(error).__name__
        raise KitError(f"the {what} {Path(path)} cannot be read: {said[:400]}.") from error
    if not isinstance(values, dict):
        raise KitError(f"the {what} {Path(path)} must map names to values.")
    return values
