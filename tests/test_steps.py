"""The steps of a run: told on a terminal, reused when they are finished, never two runs in one folder."""

import io
import json
import logging
import os
from pathlib import Path

import pytest
import toy

from fap_lib.cli import main
from fap_lib.core import progress
from fap_lib.core.errors import KitError
from fap_lib.core.files import locked
from fap_lib.core.progress import Steps
from fap_lib.runs import steps
from fap_lib.runs.notebook import EVALUATE, FEATURES, TRAIN
from fap_lib.runs.record import Run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_kernels_progress_reaches_the_terminal(monkeypatch):
    monkeypatch.setattr(progress, "_OFTEN", 0.01)
    said = Terminal()
    told = Steps(2, said)
    told.reused("features")
    with told.step("training"):
        for _ in progress.bar(range(5), "steps", 5):  # reads the environment, as a kernel does
            progress.time.sleep(0.05)
        assert json.loads(Path(os.environ[progress.REPORT]).read_text()) == [5, 5, 0.0]
    assert progress.REPORT not in os.environ
    text = said.getvalue()
    assert "[1/2] features  finished before, reused\n" in text
    assert "[2/2] training  40 %  0:00 left" in text
    assert text.endswith("[2/2] training  0:00\n")


def test_what_is_no_step_is_told_in_the_same_words(monkeypatch):
    monkeypatch.delenv("FAP_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_OFTEN", 0)
    said = Terminal()
    monkeypatch.setattr("sys.stderr", said)
    assert list(progress.bar("abcd", "drawing", 4)) == list("abcd")
    assert "\r\x1b[Kdrawing  50 %  0:00 left\r\x1b[K" in said.getvalue()
    assert said.getvalue().endswith("\r\x1b[Kdrawing  0:00\n")
    assert list(progress.bar("abcd", "a stream (MB)")) == list("abcd")
    assert "a stream (MB)  3\r" in said.getvalue()
    next(iter(progress.bar("abcd", "given up", 4)))
    assert said.getvalue().endswith("given up  stopped\n")
    before = said.getvalue()
    monkeypatch.setenv("FAP_PROGRESS", "0")
    assert list(progress.bar("abcd", "silent", 4)) == list("abcd")
    assert said.getvalue() == before


def test_a_step_that_fails_is_not_told_as_done():
    said = Terminal()
    with pytest.raises(KitError), Steps(1, said).step("training"):
        raise KitError("no")
    assert said.getvalue().endswith("[1/1] training  stopped\n")


def test_without_a_terminal_nothing_is_told():
    said = io.StringIO()
    told = Steps(2, said)
    told.reused("features")
    with told.step("training"):
        assert progress.REPORT not in os.environ
    assert said.getvalue() == ""


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        (["demo"], "continues"),
        (["mini", "pretrain", "build"], "continues"),
        (["ledger"], "starts over"),
    ],
)
def test_an_interruption_says_what_the_same_command_does(words, goes_on, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fap_lib.cli.demo._demo", interrupt)
    monkeypatch.setattr("pretraining.cli._pretrain", interrupt)
    monkeypatch.setattr("fap_lib.cli.official._ledger", interrupt)
    asyncio_ = logging.getLogger("asyncio")
    monkeypatch.setattr(asyncio_, "disabled", False)
    assert main(words) == 130
    asyncio_.error("Task exception was never retrieved")
    assert capsys.readouterr().err == f"fap: interrupted; the same command {goes_on}.\n"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notebooks that were run, none of them for real."""
    made: list[str] = []

    def run_notebook(name, parameters, place, _):
        made.append(name)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.ipynb").write_text("executed")
        (place / "table.csv").write_text("result")
        Run(Path(parameters["run"]), name, {}).finish()

    monkeypatch.setattr(steps, "run_notebook", run_notebook)
    return made


def run(folder: Path, data: Path, settings: dict | None = None) -> None:
    prompts = folder / "prompts"
    with steps.steps_in(folder, 3) as runner:
        for name, place in ((FEATURES, "features"), (TRAIN, "training"), (EVALUATE, "test")):
            parameters = {"data": str(data), "profile": "tiny", "settings": settings or {}}
            parameters["run"] = str(folder / place)
            runner.run(name, name, parameters, folder / place, prompts if name == EVALUATE else None)


def test_finished_steps_are_reused_until_what_they_depend_on_changes(tmp_path, calls):
    data, folder = toy.write(tmp_path / "toy-aux", "toy-aux", each=1).root, tmp_path / "run"
    folder.mkdir()
    (folder / "prompts").write_text("one")
    run(folder, data)
    assert calls == [FEATURES, TRAIN, EVALUATE]
    run(folder, data)
    assert len(calls) == 3
    (folder / "prompts").write_text("another")
    run(folder, data)
    assert calls[3:] == [EVALUATE]
    run(folder, data, {"training": {"epochs": 1}})
    assert calls[4:] == [FEATURES, TRAIN, EVALUATE]
    image = next(data.rglob("good/*.png"))
    os.utime(image, (1, 1))
    run(folder, data, {"training": {"epochs": 1}})
    assert calls[7:] == [FEATURES, TRAIN, EVALUATE]


@pytest.mark.parametrize("damaged", ["table.csv", "run.json", "done.json"])
def test_a_finished_step_whose_result_or_record_is_damaged_runs_again(tmp_path, calls, damaged):
    data, folder = toy.write(tmp_path / "toy-aux", "toy-aux", each=1).root, tmp_path / "run"
    folder.mkdir()
    (folder / "prompts").write_text("one")
    run(folder, data)
    path = folder / "training" / damaged
    path.write_bytes(path.read_bytes()[:-5])
    run(folder, data)
    assert calls[3:] == [TRAIN]


def test_a_step_that_was_stopped_runs_again(tmp_path, calls, monkeypatch):
    data, folder = toy.write(tmp_path / "toy-aux", "toy-aux", each=1).root, tmp_path / "run"
    folder.mkdir()
    (folder / "prompts").write_text("one")
    works = steps.run_notebook

    def stops(name, *rest):
        works(name, *rest)
        if name == TRAIN:
            raise KeyboardInterrupt

    monkeypatch.setattr(steps, "run_notebook", stops)
    with pytest.raises(KeyboardInterrupt):
        run(folder, data)
    monkeypatch.setattr(steps, "run_notebook", works)
    run(folder, data)
    assert calls == [FEATURES, TRAIN, TRAIN, EVALUATE]


def test_two_runs_in_one_folder_are_refused_in_a_sentence(tmp_path):
    with (
        locked(tmp_path / ".lock"),
        pytest.raises(KitError, match=r"another run is at work in .*; wait for it"),
        steps.steps_in(tmp_path, 1),
    ):
        pass
