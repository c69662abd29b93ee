"""Every path, name and number a command takes: refused in one sentence, at once, before anything is done."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from fap_lib.cli import main
from fap_lib.core import arguments, paths
from fap_lib.core.errors import SHOWN, KitError, shown
from fap_lib.core.files import sha256

LONG = "x" * 300

NAMES = [
    ("", "is empty"),
    ("a\nb", "control character"),
    ("a\0b", "control character"),
    ("../x", "must not hold '/'"),
    ("a\\b", "must not hold '/'"),
    ("c:x", "must not hold '/'"),
    ("..", "must not begin with '.'"),
    (".hidden", "must not begin with '.'"),
    ("-rf", "must not begin with '.' or '-'"),
    ("x ", "begin or end with a space"),
    ("\ud800", "is not valid UTF-8"),
    ("x" * 121, "must not be longer than 120 bytes"),
    ("ü" * 61, "must not be longer than 120 bytes"),
    (7, "must be text"),
    (["a"], "must be text"),
    (None, "must be text"),
]


@pytest.mark.parametrize(("value", "message"), NAMES)
def test_what_cannot_be_a_name(value, message):
    with pytest.raises(KitError, match=message) as caught:
        arguments.name(value)
    assert len(str(caught.value)) < 2 * SHOWN


def test_names_of_people_and_places_are_names():
    for value in ("mvtec", "Teile vom 3. März", "部品", "a" * 120, "mini-test-d2"):
        assert arguments.name(value) == value


def test_a_backbone_may_have_a_tag():
    for value in ("mini", "ViT-L-14:laion2b_s32b_b82k"):
        assert arguments.backbone(value) == value
    for value in ("ViT-L-14:", ":openai", "ViT-L-14:a:b", "../ViT"):
        with pytest.raises(KitError, match="the backbone"):
            arguments.backbone(value)


def test_a_long_value_is_cut_in_messages():
    assert shown("x" * 5000) == "'" + "x" * 195 + " ..."
    assert len(shown(list(range(9999)))) == SHOWN


COMMANDS = [
    # paths: unknown user, a file for a folder, below a file, in /proc, too long, a control character
    (["weights", "mini", "--to", "~nosuch/x"], "leads nowhere"),
    (["weights", "mini", "--to", "{folder}"], "is a folder, not a file"),
    (["weights", "mini", "--to", "{file}/x"], "cannot be made, because"),
    (["weights", "mini", "--to", "/proc/x/y"], "nothing can be written to /proc"),
    (["weights", "mini", "--from", "{folder}"], "it is a folder"),
    (["weights", "../x", "--to", "{folder}/x"], "must not hold '/'"),
    (["weights", "tiny-random", "--from", "{file}"], "reads none from"),
    (["score", "{file}x"], "there is no file or folder"),
    (["score", "{folder}", "no-such"], "there is no file or folder"),
    (["score", "~nosuch"], "leads nowhere"),
    (["score", "{folder}", "--run", "{file}"], "is a file, not a folder"),
    (["score", "{folder}", "--run", LONG], "cannot be used (File name too long)"),
    (["score", "{folder}", "--run", "a\nb"], "control character"),
    (["score", "{folder}", "--normal", "{folder}/no"], "there is no folder"),
    (["reproduce", "--data", "{file}", "--train", "mini-a", "--test", "mini-test"], "it is a file"),
    (
        ["reproduce", "--data", "{folder}", "--train", "a", "--test", "b", "--settings", "{folder}"],
        "a folder",
    ),
    (["paper", "{folder}"], "it is a folder"),
    (["paper", "{file}", "--run", "{file}/x"], "cannot be made, because"),
    (["parity", "{folder}"], "it is a folder"),
    (["data", "folder", "{file}"], "it is a file"),
    (["data", "folder", "{folder}", "--to", "{file}/x"], "cannot be made, because"),
    (["data", "prepare", "elpv", "--from", "~nosuch"], "leads nowhere"),
    (["data", "prepare", "elpv", "--from", "{folder}", "--to", "{file}"], "is a file, not a folder"),
    (["data", "prepare", "elpv", "--from", "{folder}", "--via", "gdown"], "give one of them"),
    (["data", "check", ".."], "must not begin with '.'"),
    (["data", "check", "~nosuch/x"], "leads nowhere"),
    (["mini", "draw", "mini-test", "--to", "/proc/x"], "nothing can be written to /proc"),
    (["mini", "pretrain", "{file}"], "is a file, not a folder"),
    # names
    (["data", "folder", "{folder}", "--name", "../../x"], "must not hold '/'"),
    (["data", "folder", "{folder}", "--name", "a\nb"], "control character"),
    (["data", "folder", "{folder}", "--name", "mini-test"], "the name of a generated dataset"),
    (["data", "folder", "{folder}", "--name", "mini-test-d7"], "the name of a generated dataset"),
    (["data", "folder", "{folder}", "--name", "mvtec"], "the name of a benchmark dataset"),
    (["mini", "draw", "mini-organs-d١"], "unknown generated dataset"),
    (["mini", "draw", "mini-organs-d00"], "unknown generated dataset"),
    (["mini", "draw", "mini-organs-d0"], "unknown generated dataset"),
    (["reproduce", "--data", "{folder}", "--train", "", "--test", "mini-test"], "is empty"),
    (["reproduce", "--data", "{folder}", "--train", "mini-a", "--test", " , "], "no test dataset was named"),
    (["reproduce", "--data", "{folder}", "--train", "mini-a", "--test", "mini-a"], "is among the datasets"),
    (["reproduce", "--data", "{folder}", "--train", "../x", "--test", "mini-a"], "must not hold '/'"),
    (
        ["reproduce", "--data", "{folder}", "--train", "mini-a", "--test", "b", "--profile", "x"],
        "profile 'x'",
    ),
    (["reproduce", "--data", "{folder}", "--train", "a", "--test", "b", "--device", "tpu"], "invalid choice"),
    # numbers
    (["paper", "{file}", "--cores", "0"], "--cores: must be at least 1, found 0"),
    (["paper", "{file}", "--cores", "-1"], "--cores: must be at least 1, found -1"),
    (["paper", "{file}", "--cores", "9" * 400], "--cores: must be a whole number"),
    (["paper", "{file}", "--snakemake", '-n "x'], "cannot be split into words (No closing quotation)"),
    (["mini", "pretrain", "{folder}", "--steps", "0"], "--steps: must be at least 1, found 0"),
    (["mini", "pretrain", "{folder}", "--steps", "-1"], "--steps: must be at least 1, found -1"),
    (["mini", "pretrain", "{folder}", "--seed", "-1"], "--seed: must be from 0 to 4294967295, found -1"),
    (["mini", "pretrain", "{folder}", "--seed", "1.5"], "--seed: must be a whole number"),
    (["score", "{folder}", "--alpha", "0"], "above 0 and below 1"),
    (["score", "{folder}", "--alpha", "1"], "above 0 and below 1"),
    (["score", "{folder}", "--alpha", "2"], "above 0 and below 1"),
    (["score", "{folder}", "--alpha", "nan"], "above 0 and below 1"),
    (["score", "{folder}", "--alpha", "x" * 5000], "above 0 and below 1"),
    (["scores"], "invalid choice: 'scores'"),
    (["demo", "--no-such-option"], "unrecognized arguments"),
    ([], "required: COMMAND"),
]


@pytest.mark.parametrize(("words", "message"), COMMANDS)
def test_a_command_refuses_in_one_sentence_and_does_nothing(tmp_path, capsys, monkeypatch, words, message):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("nothing")
    monkeypatch.chdir(folder)
    before = sorted(tmp_path.rglob("*"))
    assert main([word.format(folder=folder, file=file) for word in words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert said.startswith("fap: ")
    assert len(said) < 4 * SHOWN
    assert sorted(tmp_path.rglob("*")) == before


RUN = ["reproduce", "--data", "{folder}", "--train", "mini-a", "--test", "mini-test"]
EVALUATE = ["evaluate", "{file}", "--data", "{folder}", "--test", "mini-test"]

AT_ONCE = [
    *([*words] for words, _ in COMMANDS if words[:1] not in (["weights"], ["mini"])),
    [*RUN, "--profile", "x"],
    [*RUN, "--settings", "{file}"],
    [*RUN, "--settings", "{settings}"],
    [*RUN[:-1], "mini-tset"],
    ["reproduce", "--data", "{folder}", "--train", "mini-tset", "--test", "mini-test"],
    ["evaluate", "{file}", "--data", "{folder}", "--test", "mini-tset"],
    [*EVALUATE, "--profile", "mini", "--settings", "{settings}"],
    [*EVALUATE, "--profile", "x"],
    ["evaluate", "{folder}", "--data", "{folder}", "--test", "mini-test"],
    ["score", "{folder}", "--prompts", "no-such-file"],
    ["score", "{folder}", "--profile", "x"],
    ["score", "{folder}", "--alpha", "2"],
    ["export", "no-such-file", "--to", "{folder}"],
    ["checkpoint", "no-such-file"],
    ["paper", "{file}"],
    ["paper", "{settings}"],
    ["paper", "{grid}"],
    ["doctor", "{grid}"],
    ["paper", "{kit}/workflow/grids/mini.yaml", "--cores", "x"],
    ["weights", "mini", "--to", "~nosuch/x"],
    ["mini", "pretrain", "{folder}", "--steps", "0"],
    ["mini", "pretrain", "{folder}", "--recipe", "x"],
    ["mini", "draw", "mini-tset"],
]
"""What is refused before anything heavy is imported."""

REFUSE = """
import json, sys
from fap_lib.cli import main
for words in json.load(sys.stdin):
    code = main(words)
    heavy = [name for name in ("torch", "open_clip", "pandas", "papermill") if name in sys.modules]
    print(json.dumps([words, code, heavy]))
    if heavy:
        break
"""


def test_a_refusal_waits_for_no_heavy_import(tmp_path):
    """What takes seconds to import is looked at, and not the clock, which measures the machine."""
    known = {"folder": tmp_path / "folder", "kit": paths.KIT}
    known["folder"].mkdir()
    contents = {
        "file": "nothing",
        "settings": "model: {n_promts: 3}",
        "grid": "profile: mini\ndatasets: {mini-a: [mini-tset]}",
    }
    for name, text in contents.items():
        known[name] = tmp_path / f"{name}.yaml"
        known[name].write_text(text)
    words = [[word.format(**known) for word in command] for command in AT_ONCE]
    done = subprocess.run(
        [sys.executable, "-c", REFUSE], input=json.dumps(words), capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [[command, 2, []] for command in words]
    assert len(done.stderr.splitlines()) == len(words)


def test_a_relative_path_starts_where_it_should(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert arguments.place("a/../b") == tmp_path / "b"
    assert arguments.place("~/b") == tmp_path / "me" / "b"
    assert paths.run("runs/x") == home / "runs" / "x"
    assert paths.dataset("mvtec") == home / "data" / "mvtec"
    assert paths.dataset("./mvtec") == tmp_path / "mvtec"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(KitError, match=r"leads nowhere|cannot be used"):
        arguments.place("circle")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with pytest.raises(KitError, match=r"nothing can be written to .*Permission denied"):
        arguments.new_folder(closed / "x")


def test_a_new_place_is_checked_and_not_made(tmp_path: Path):
    assert arguments.new_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert arguments.new_file(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list(tmp_path.iterdir()) == []


SHUT = {"a reader that has enough": "| true", "a full disk": "> /dev/full"}


@pytest.mark.parametrize("end", SHUT.values(), ids=SHUT)
def test_output_that_cannot_be_written_is_no_traceback(end):
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m fap_lib.cli data list {end}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(
        r"fap: the output cannot be written \((Broken pipe|No space left on device)\)\.\n", done.stderr
    )


def test_what_may_not_be_read_is_said_in_a_sentence(monkeypatch, capsys):
    """Whoever looks first: as root, and in a list of all files, every file can be read."""
    refused = PermissionError(errno.EACCES, "Permission denied", "/closed/meta.json")
    monkeypatch.setattr(Path, "is_file", Mock(side_effect=refused))
    assert main(["data", "check", "./x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "fap: /closed/meta.json cannot be used (Permission denied); change its permissions"
    )
    monkeypatch.setattr(Path, "is_file", Mock(side_effect=OSError(errno.EBADF, "a defect", "x")))
    with pytest.raises(OSError, match="a defect"):
        main(["data", "check", "./x"])


def test_a_file_whose_bytes_cannot_be_read_has_no_hash():
    with pytest.raises(KitError, match=r"the file /proc/self/mem cannot be read \(Input/output error\)"):
        sha256(Path("/proc/self/mem"))
