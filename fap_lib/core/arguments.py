"""What a user may give: paths, names and numbers, each checked by one function before anything is done.

The functions serve as argparse types, too, and import nothing heavy, so a refusal takes no time.
"""

import argparse
import math
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from fap_lib.core.errors import KitError, shown
from fap_lib.core.numbers import SEED

LONGEST_NAME = 120
"""Bytes of a name; file systems take 255, and the kit puts something before and behind it."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


_EXAMPLES = "examples:\n  "


class Help(argparse.HelpFormatter):
    """Help with examples as they are typed, and the default of each option that has one."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        for command in self._iter_indented_subactions(action):  # argparse forgets how far these are indented
            width = len(self._format_action_invocation(command)) + self._current_indent
            self._action_max_length = max(self._action_max_length, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default in (None, False, argparse.SUPPRESS) or action.default == []
        if plain or not action.option_strings:
            return action.help
        return f"{action.help} (default: %(default)s)"


class _Commands(argparse._SubParsersAction):
    """Commands whose help begins with what the list of commands says of them, where nothing else is given."""

    def add_parser(self, name: str, **options: Any) -> Any:
        said = options["help"]
        return super().add_parser(name, **{"description": f"{said[0].upper()}{said[1:]}."} | options)


class Parser(argparse.ArgumentParser):
    """An argument parser whose refusals are one sentence, as all of the kit's are."""

    def __init__(self, examples: Sequence[str] = (), **options: Any):
        """Args:
        examples: whole commands, shown at the end of its help.
        """
        options |= {"formatter_class": Help, "epilog": _EXAMPLES + "\n  ".join(examples)}
        super().__init__(**options)
        self.register("action", "parsers", _Commands)

    def error(self, message: str) -> NoReturn:
        """Refuse.

        Raises:
            KitError: always.
        """
        raise KitError(f"{message} (see `{self.prog} --help`).")


def name(value: Any, what: str = "name") -> str:
    """A name of a dataset, category or run: one part of a path, and nothing that hides or escapes.

    Raises:
        KitError: no text, empty, too long, with a separator or a control character, or hidden.
    """
    if not isinstance(value, str):
        raise KitError(f"a {what} must be text, found {shown(value)}; put it between quotes.")
    problem = _unfit(value)
    if not problem and ("/" in value or "\\" in value or ":" in value):
        problem = "must not hold '/', '\\' or ':'"
    if not problem and (value[:1] in (".", "-") or value != value.strip()):
        problem = "must not begin with '.' or '-', nor begin or end with a space"
    if not problem and len(value.encode()) > LONGEST_NAME:
        problem = f"must not be longer than {LONGEST_NAME} bytes"
    if problem:
        raise KitError(f"the {what} {shown(value)} {problem}; choose another name.")
    return value


def backbone(value: str) -> str:
    """The name of a CLIP: an architecture, perhaps with the tag of its weights behind a colon.

    Raises:
        KitError: one of the two cannot be a name.
    """
    for part in value.split(":", 1):
        name(part, "backbone")
    return value


def place(value: str | os.PathLike[str], start: Path | None = None) -> Path:
    """A path a user gave, absolute: `~` is the user's home.

    Args:
        start: where a relative path starts; by default at the working directory.

    Raises:
        KitError: empty, a control character, no UTF-8, an unknown user's home, too long, a circle of links.
    """
    text = os.fspath(value)
    if problem := _unfit(text):
        raise KitError(f"the path {shown(text)} {problem}; give another path.")
    try:
        path = ((start or Path.cwd()) / Path(text).expanduser()).resolve()
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except RuntimeError as error:  # expanduser: there is no such user; resolve: links in a circle
        raise KitError(
            f"the path {shown(text)} leads nowhere (unknown user after '~', or links in a circle); "
            f"for a folder that is really called so, write {shown('./' + text)}."
        ) from error
    except OSError as error:
        raise KitError(f"the path {shown(text)} cannot be used ({error.strerror}); give another.") from error
    return path


def folder(value: str | os.PathLike[str]) -> Path:
    """A folder that is there.

    Raises:
        KitError: it is not, or cannot be read.
    """
    path = place(value)
    if not path.is_dir():
        why = "it is a file" if path.is_file() else "give a folder that exists"
        raise KitError(f"there is no folder {path}; {why}.")
    if not os.access(path, os.R_OK | os.X_OK):
        raise KitError(f"the folder {path} cannot be read; change its permissions.")
    return path


def file(value: str | os.PathLike[str]) -> Path:
    """A file that is there.

    Raises:
        KitError: it is not, or cannot be read.
    """
    path = place(value)
    if not path.is_file():
        why = "it is a folder" if path.is_dir() else "give a file that exists"
        raise KitError(f"there is no file {path}; {why}.")
    if not os.access(path, os.R_OK):
        raise KitError(f"the file {path} cannot be read; change its permissions.")
    return path


def source(value: str | os.PathLike[str]) -> Path:
    """A file or a folder that is there.

    Raises:
        KitError: it is not, or cannot be read.
    """
    path = place(value)
    if not path.exists():
        raise KitError(f"there is no file or folder {path}; give one that exists.")
    return folder(path) if path.is_dir() else file(path)


def prompts(value: str) -> str:
    """Prompts a user names: those that ship with the kit, by their mode, or a file that is there.

    Raises:
        KitError: neither.
    """
    from fap_lib.core.config import Mode

    shipped = get_args(Mode)
    if value in shipped or place(value).is_file():
        return value
    raise KitError(
        f"there are no prompts {shown(value)}; give {' or '.join(shipped)}, which ship with the profile "
        "mini, or the path of a checkpoint, such as a run's training/prompts.safetensors."
    )


def images(value: str) -> str:
    """Images a user names: a file or a folder that is there, or a pattern, which is left to who matches it.

    Raises:
        KitError: there is no such file or folder.
    """
    if not any(sign in value for sign in "*?["):
        source(value)
    return value


def new_folder(value: str | os.PathLike[str]) -> Path:
    """A folder to write into: there, or one that can be made.

    Raises:
        KitError: a file is in its way, or nothing can be written there.
    """
    path = place(value)
    if path.exists() and not path.is_dir():
        raise KitError(f"{path} is a file, not a folder; give another folder.")
    _writable(path)
    return path


def new_file(value: str | os.PathLike[str]) -> Path:
    """A file to write: one that is replaced, or one that can be made.

    Raises:
        KitError: a folder is in its way, or nothing can be written there.
    """
    path = place(value)
    if path.is_dir():
        raise KitError(f"{path} is a folder, not a file; give the path of a file in it.")
    _writable(path.parent)
    return path


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: whole numbers from `least` to `most`."""

    def number(value: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
            raise argparse.ArgumentTypeError(f"must be a whole number, found {shown(value)}")
        found = int(value)
        if found < least or (most is not None and found > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {bounds}, found {found}")
        return found

    return number


seed = whole(0, SEED)
"""An argparse type: a seed of random numbers."""


def share(value: str) -> float:
    """An argparse type: a number above 0 and below 1."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and below 1, found {shown(value)}")
    return found


def words(value: str) -> list[str]:
    """An argparse type: options of another program, split as a shell splits them."""
    try:
        return shlex.split(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"cannot be split into words ({error}): {shown(value)}") from error


def names(value: str) -> list[str]:
    """An argparse type: names between commas.

    Raises:
        KitError: no name, or one that cannot be a name.
    """
    found = [name(part.strip()) for part in value.split(",") if part.strip()]
    if not found:
        raise KitError("no test dataset was named; name one or more, separated by commas.")
    return list(dict.fromkeys(found))


def profile(value: str) -> str:
    """The name of a profile.

    Raises:
        KitError: there is none of this name; the message has the nearest.
    """
    from fap_lib.core.config import load_profile

    load_profile(value)
    return value


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add `--data` and `--test` to a command: where datasets lie, and which to test on."""
    parser.add_argument(
        "--data",
        type=folder,
        required=True,
        metavar="FOLDER",
        help="where raw or prepared datasets lie; needed",
    )
    parser.add_argument(
        "--test",
        dest="tests",
        type=names,
        required=True,
        metavar="NAME,NAME",
        help="the datasets to test on; needed",
    )


def add_profile(parser: argparse.ArgumentParser, default: str | None, otherwise: str = "") -> None:
    """Add `--profile` to a command.

    Args:
        otherwise: what happens without it, where there is no default.
    """
    parser.add_argument(
        "--profile",
        type=profile,
        default=default,
        metavar="{mini,paper,tiny}",
        help="mini: the kit's small world; paper: CLIP ViT-L/14@336px at 518 pixels; tiny: random weights, "
        f"for tests{otherwise}",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--settings` to a command."""
    parser.add_argument(
        "--settings",
        type=file,
        metavar="FILE",
        help="YAML file with changes to the profile, such as `training: {epochs: 2}` (default: none)",
    )


def add_run(parser: argparse.ArgumentParser, name: str) -> None:
    """Add `--run` to a command; `name` is the folder below `runs/` that results go to without it."""
    parser.add_argument(
        "--run",
        dest="folder",
        type=new_folder,
        metavar="FOLDER",
        help=f"where results go (default: runs/{name})",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device` to a command."""
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto takes a GPU where there is one"
    )


DEVICES = ("auto", "cpu", "cuda")


def _unfit(text: str) -> str:
    """Why a text can be neither a name nor a path; empty if it can."""
    if not text:
        return "is empty"
    if _CONTROL.search(text):
        return "holds a control character, such as a line's end"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    return ""


def _writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to. Trying is the only answer that is right for every
    file system and user; nothing stays behind.

    Raises:
        KitError: says why.
    """
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise KitError(f"{folder} cannot be made, because {there} is no folder; give another folder.")
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".fap-"):
            pass
    except OSError as error:
        raise KitError(
            f"nothing can be written to {there} ({error.strerror}); choose another folder, "
            "or change its owner."
        ) from error
