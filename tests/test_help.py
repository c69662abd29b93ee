"""The help of every command: what it does, examples that would run, and what happens without an option."""

import argparse
import shlex
from collections.abc import Iterator

import pytest

from fap_lib.cli import make_parser
from fap_lib.core.config import known_profiles
from fap_lib.inference.detector import SHIPPED


def under(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from under(command)


COMMANDS = list(under(make_parser()))


def examples(parser: argparse.ArgumentParser) -> list[list[str]]:
    """The words of each example, without `fap` and what is set before it."""
    lines = parser.format_help().split("\nexamples:\n")[1].splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("fap") + 1 :] for line in words]


@pytest.mark.parametrize("parser", COMMANDS, ids=lambda parser: parser.prog)
def test_a_command_says_what_it_does_with_examples_that_parse(parser, capsys):
    assert parser.description.endswith(".")
    whole = make_parser()
    for each in under(whole):
        for action in each._actions:
            action.type = None  # the files of an example need not be here
    for words in examples(parser):
        assert f"fap {' '.join(words)} ".startswith(f"{parser.prog} ")
        try:
            whole.parse_args(words)
        except SystemExit:  # an example that asks for help
            assert "usage: fap" in capsys.readouterr().out


@pytest.mark.parametrize("parser", COMMANDS, ids=lambda parser: parser.prog)
def test_a_command_says_what_happens_without_an_option(parser):
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action.dest
        if action.option_strings and action.nargs != 0:
            said = parser._get_formatter()._expand_help(action)
            assert ("default: " in said) != action.required, action.dest
            assert said.endswith("; needed") == action.required, action.dest
            assert said.count("default") <= 1, action.dest


def test_help_names_the_profiles_and_the_prompts_there_are():
    for parser in COMMANDS:
        for action in parser._actions:
            if "--profile" in action.option_strings:
                assert action.metavar == f"{{{','.join(known_profiles())}}}"
                assert all(f"{name}: " in action.help for name in known_profiles())
            if "--prompts" in action.option_strings:
                assert action.metavar == f"{{{','.join(SHIPPED)},FILE}}"
