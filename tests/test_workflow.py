"""Grids: what is refused, what is planned, and what makes a job run again."""

import dataclasses
import json
import logging
import os
import shutil

import nbformat
import pytest
import torch
import toy
import yaml
from safetensors import SafetensorError

from fap_lib.clip import mini
from fap_lib.core import paths
from fap_lib.core.config import ModelSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors, locked, sha256
from fap_lib.core.fingerprint import fingerprint
from fap_lib.core.sealed import write_sealed
from fap_lib.data.manifest import write_manifest
from fap_lib.evaluation.baselines import PUBLISHED
from fap_lib.grids import compare, grid, jobs, snakemake
from fap_lib.grids.settings import presets, profile_of
from fap_lib.model import FAPrompt
from fap_lib.runs.evaluate import evaluate_prompts
from fap_lib.runs.marks import mark
from fap_lib.runs.notebook import LESSON, code_cells
from fap_lib.runs.reproduce import reproduce
from fap_lib.runs.steps import dataset_digest
from fap_lib.training import losses

MINI = paths.WORKFLOW / "grids" / "mini.yaml"


def write(folder, **changes):
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(MINI.read_text()), **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": {"mini-a": ["mini-tset"]}}, "unknown dataset 'mini-tset'; the nearest is 'mini-test'"),
        ({"datasets": {"kvasri": ["mini-a"]}}, "unknown dataset 'kvasri'; the nearest is 'kvasir'"),
        ({"datasets": {"mini-a": ["mini-a"]}}, "mini-a is among the datasets its own prompts are tested on"),
        ({"baselines": ["cop"]}, "unknown name 'cop' among the grid's baselines; the nearest is 'coop'"),
        ({"ablations": ["no-orthogonal"]}, "the nearest is 'no-orthogonality'"),
        ({"ablation": []}, "unknown grid setting 'ablation'.*the nearest is 'ablations'"),
        ({"profile": "mimi"}, "unknown profile 'mimi'.*the nearest is 'mini'"),
        (
            {"settings": {"model": {"n_promts": 3}}},
            "unknown model setting 'n_promts'.*nearest is 'n_prompts'",
        ),
        ({"settings": {"feature": {}}}, "unknown settings section 'feature'.*the nearest is 'features'"),
        ({"settings": {"features": {"image_size": "96"}}}, "image_size = '96'"),
        ({"modes": ["official"]}, "modes.0 = 'official'"),
        ({"seeds": [1, 1]}, "names one of its seeds twice"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_a_mistake_in_a_grid_ends_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(KitError, match=message):
        snakemake.paper(write(tmp_path, **changes), 1, [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dataset_that_is_not_prepared_is_named_with_the_command(tmp_path):
    path = write(tmp_path, datasets={"mini-a": ["kvasir"]})
    with pytest.raises(KitError, match=r"kvasir is not prepared .*: fap data prepare kvasir \(and --from"):
        snakemake.paper(path, 1, [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("engine")
def test_a_device_that_is_not_there_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(KitError, match="cuda was asked for"):
        snakemake.paper(write(tmp_path, device="cuda"), 1, [], tmp_path / "run")
    with pytest.raises(KitError, match="cuda was asked for"):
        reproduce(tmp_path, "mini-a", ["mini-test"], "tiny", {}, tmp_path / "run", "cuda")
    prompts = mini.prompts("paper")
    with pytest.raises(KitError, match="cuda was asked for"):
        evaluate_prompts(prompts, tmp_path, ["mini-test"], None, {}, tmp_path / "run", "cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("engine")
def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with (
        locked(tmp_path / "run" / "lock"),
        pytest.raises(KitError, match=r"another run is at work in .*run; wait for it"),
    ):
        snakemake.paper(MINI, 1, ["-n"], tmp_path / "run")
    assert not (tmp_path / "run" / "plan.json").exists()


def test_without_snakemake_nothing_runs_and_the_target_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KitError, match="Snakemake is not installed; `make workflow` installs it"):
        snakemake.snakemake()


def test_a_plan_is_summed_up_by_kind(tmp_path):
    chosen = grid.load_grid(write(tmp_path))
    jobs = grid.plan(chosen, tmp_path)
    snakemake.write_plan(chosen, jobs, tmp_path, [])
    (first, *_) = [job for job in jobs if job.kind == "training"]
    (tmp_path / first.name).mkdir(parents=True)
    record = tmp_path / "jobs" / f"{first.name}.json"
    mark(tmp_path / first.name, sha256(record), 1)
    told = {line.split()[0]: line.split()[1:] for line in snakemake.summary(jobs, tmp_path).splitlines()}
    trainings = sum(job.kind == "training" for job in jobs)
    assert told["training"] == [str(trainings - 1), "to", "run,", "1", "finished"]
    assert sum(int(counts[0]) for counts in told.values()) == len(jobs) - 1


def test_the_plan_trains_once_a_setting_and_tests_every_target(tmp_path):
    chosen = grid.load_grid(write(tmp_path, seeds=[0, 1], ablations=["k", "no-dap"]))
    plan = grid.plan(chosen, tmp_path)
    names = [job.name for job in plan]
    assert len(set(names)) == len(names)
    for number, job in enumerate(plan):
        assert set(job.needs) <= set(names[:number]), "a job comes after what it needs"

    # FAPrompt and K in 1, 2, 5, 15 in two modes (K = 10 is FAPrompt's own), without DAP and three learned
    # baselines in one: what a mode changes they do not have.
    trainings = [job for job in plan if job.kind == "training"]
    assert len(trainings) == 2 * 2 * (2 * 5 + 1 + 3)
    settings = [json.dumps(job.parameters["settings"], sort_keys=True) for job in trainings]
    assert len(set(settings)) == len(settings) / 2, "each for two auxiliary datasets"
    evaluations = [job for job in plan if job.kind == "evaluation"]
    assert len(evaluations) == 2 * 14 * (3 + 1) + 2 * 4

    rows = plan[-1].facts["rows"]
    shared = {row["run"] for row in rows if row["method"] == "k-10"}
    assert shared == {row["run"] for row in rows if row["method"] == "faprompt"}
    assert {row["mode"] for row in rows if row["method"] == "coop"} == {None}
    assert {row["seed"] for row in rows if row["method"] == "clip"} == {None}


def test_a_large_dataset_is_extracted_in_shards(tmp_path):
    chosen = grid.load_grid(write(tmp_path, shards={"mini-test": 3}))
    plan = {job.name: job for job in grid.plan(chosen, tmp_path)}
    parts = [f"shards/mini-test/{number}-of-3" for number in range(3)]
    assert plan["features/mini-test"].needs == ["shards/mini-test/joined"]
    assert plan["shards/mini-test/joined"].needs == parts
    assert [plan[name].parameters["number"] for name in parts] == [0, 1, 2]
    assert plan["features/mini-a"].needs == []
    with pytest.raises(KitError, match="cuts 'mini-tset' into shards, but does not use it"):
        grid.load_grid(write(tmp_path, shards={"mini-tset": 3}))


def test_shards_run_as_jobs_and_join(tmp_path):
    toy.write(paths.data() / "toy-aux", "toy-aux", each=4)
    changes = {"profile": "tiny", "datasets": {"toy-aux": ["mini-a"]}, "shards": {"toy-aux": 2}}
    chosen = grid.load_grid(write(tmp_path, **changes))
    plan = [job for job in grid.plan(chosen, tmp_path / "run") if job.kind == "shards"]
    snakemake.write_plan(chosen, plan, tmp_path / "run", [])
    made = []
    for job in plan:
        jobs.run_job(tmp_path / "run" / "jobs" / f"{job.name}.json")
        made.append(json.loads((tmp_path / "run" / job.name / "run.json").read_text()))
    assert [each["images"] for each in made] == [8, 8, 16]
    assert len({each["cache"] for each in made}) == 3


def test_the_papers_grid_is_the_papers_protocol():
    content = yaml.safe_load((paths.WORKFLOW / "grids" / "paper.yaml").read_text())
    assert content["datasets"]["visa"] == ["mvtec"]
    assert len(content["datasets"]["mvtec"]) == len(set(content["datasets"]["mvtec"])) == 18
    assert "visa" in content["datasets"]["mvtec"]
    grid.Grid.parse(content)


def sizes(pattern, section, setting):
    found = [preset for name, preset in presets().items() if name.startswith(f"{pattern}-")]
    return [getattr(preset, section)[setting] for preset in found]


def test_the_ablations_are_those_of_the_paper():
    assert sizes("k", "model", "n_prompts") == [1, 2, 5, 10, 15]
    assert sizes("m", "model", "n_patches") == [1, 5, 10, 20, 50]
    assert sizes("epochs", "training", "epochs") == [7, 15]


def test_presets_name_known_wordings_and_reported_methods():
    known = set(compare.load_reported()["method"])
    for preset in presets().values():
        assert preset.wording is None or preset.wording in PUBLISHED
        assert preset.reported is None or preset.reported in known
        assert bool(preset.unlike) == (preset.group == "baselines"), "no baseline is the published one"


@pytest.mark.parametrize("name", [name for name, preset in presets().items() if not preset.wording])
def test_every_preset_learns(name, backbone, tmp_path):
    """Each is a setting of the one prompt learner: it predicts, has losses, and they reach its tokens."""
    preset = presets()[name]
    chosen = grid.load_grid(write(tmp_path, profile="tiny"))
    profile = profile_of(chosen, preset, "paper", 0)
    torch.manual_seed(0)
    model = FAPrompt(backbone.text_tower, profile.model, backbone.patch_width)
    unit = torch.nn.functional.normalize
    image, patches = unit(torch.randn(2, 64), dim=-1), unit(torch.randn(2, 64, 64), dim=-1)
    mask = torch.zeros(2, 16, 16)
    mask[1, :4] = 1
    static = model.static_text()
    prediction = model(image, patches, static)
    losses(prediction, static, torch.tensor([0, 1]), mask, profile.training)["total"].backward()
    learned = [*model.prompts.parameters(), *(model.prior_network or torch.nn.Module()).parameters()]
    for parameter in learned:
        assert parameter.grad is not None or not parameter.numel()
    assert model.prompts.normal.grad.abs().sum() > 0
    assert prediction.score.shape == (2,)


def test_cocoop_reads_the_image_and_not_its_patches(backbone):
    preset = presets()["cocoop"]
    settings = ModelSettings.parse({**preset.model, "deep_layers": 0})
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width).eval()
    image, patches = torch.randn(1, 64), torch.randn(1, 16, 64)
    prior = model(image, patches).prior
    assert torch.equal(prior, model(image, torch.randn(1, 16, 64)).prior)
    assert not torch.allclose(prior, model(torch.randn(1, 64), patches).prior)
    assert model(image, patches).chosen is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"abnormal_tokens": 0}, "abnormal_tokens = 0 leaves nothing"),
        ({"abnormal_tokens": 0, "prior": False}, "abnormal_tokens = 0 leaves nothing"),
        ({"selection": "global"}, "set n_patches: 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(KitError, match=message):
        ModelSettings.parse(changes)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the code and the notebooks, to change."""
    for name in ("fap_lib", "data_prep", "notebooks"):
        shutil.copytree(
            paths.REPOSITORY / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("weights", "__pycache__", "*.csv"),
        )
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_prose_does_not_change_a_fingerprint_but_code_does(copy):
    notebook = copy / "notebooks" / "04_train_prompts.ipynb"
    before = fingerprint(code_cells(notebook))

    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = "Other words."
        elif "parameters" not in cell.metadata.get("tags", []):
            cell.source += "\n# a remark"
    nbformat.write(content, notebook)
    edit(copy / "fap_lib" / "training.py", '"""Training the prompts', '"""Learning the prompts')
    edit(copy / "fap_lib" / "losses.py", "import", "# a remark\nimport")
    edit(
        copy / "fap_lib" / "runs" / "report.py", "max-width: 60rem", "max-width: 50rem"
    )  # no step of a training
    assert fingerprint(code_cells(notebook)) == before

    edit(copy / "fap_lib" / "cap.py", "0.02 * torch.randn(normal", "0.03 * torch.randn(normal")
    changed = fingerprint(code_cells(notebook))
    assert changed != before, "training.py -> model.py -> cap.py"
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    last = [cell for cell in code if LESSON not in cell.metadata.get("tags", [])][-1]
    last.source += "\nprint(1)"
    nbformat.write(content, notebook)
    assert fingerprint(code_cells(notebook)) != changed


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A few modules that know nothing of each other, but for `via`, which imports `one`."""
    texts = {
        "fap_lib/one.py": "x = 1\n",
        "fap_lib/via.py": "from fap_lib.one import x\n",
        "fap_lib/model.py": "x = 2\n",
        "fap_lib/room/__init__.py": "",
        "fap_lib/room/two.py": "x = 3\n",
        "data_prep/three.py": "x = 4\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("imports", "reached"),
    [
        ("import fap_lib.one", "fap_lib/one.py"),
        ("from fap_lib.one import x", "fap_lib/one.py"),
        ("from fap_lib.room import two", "fap_lib/room/two.py"),
        ("from fap_lib import FAPrompt", "fap_lib/model.py"),  # by the public face
        ("def f():\n    from fap_lib.one import x\n", "fap_lib/one.py"),
        ("import data_prep.three", "data_prep/three.py"),
        ("from fap_lib.via import x", "fap_lib/one.py"),
    ],
)
def test_a_fingerprint_follows_every_way_to_import(house, imports, reached):
    main = house / "main.py"
    main.write_text(imports)
    before = fingerprint([main.read_text()])
    for path in house.rglob("*.py"):
        text = path.read_text()
        path.write_text(f'"""Says what it is for."""\n# a remark\n{text}')
        assert fingerprint([main.read_text()]) == before
        path.write_text(f"{text}\nother = 5\n")
        between = {"via": "fap_lib/via.py", "room": "fap_lib/room/__init__.py"}
        needed = [main, house / reached, *(house / file for word, file in between.items() if word in imports)]
        assert (fingerprint([main.read_text()]) != before) == (path in needed), path
        path.write_text(text)


def test_a_fingerprint_is_of_the_cells_that_jobs_run(tmp_path):
    def made(*sources):
        notebook = nbformat.v4.new_notebook()
        tags = ([], ["lesson"], [])
        for source, tag in zip(sources, tags, strict=True):
            notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tag}))
        nbformat.write(notebook, tmp_path / "n.ipynb")
        return fingerprint(code_cells(tmp_path / "n.ipynb"))

    before = made("a = 1", "print(a)", "b = a")
    assert made("a = 1", "print(2 * a)", "b = a") == before
    assert made("a = 1  # one", "print(a)", "b = a") == before
    assert made("a = 2", "print(a)", "b = a") != before
    assert made("a = 1", "print(a)", "b = 2 * a") != before


def test_what_a_record_holds(tmp_path):
    root = toy.write(paths.data() / "toy-aux", "toy-aux", each=2).root
    changes = {"datasets": {"mini-a": ["toy-aux"], "mini-b": ["toy-aux"]}, "seeds": [0, 5], "threads": 3}
    chosen = grid.load_grid(write(tmp_path, **changes, ablations=["no-dap"], baselines=["clip"]))
    plan = {job.name: job for job in grid.plan(chosen, tmp_path)}
    sections = {
        "features": {"features"},
        "training": {"features", "model", "training"},
        "evaluation": {"features", "model", "training", "scoring"},
    }
    weights = sha256(mini.WEIGHTS / "mini.safetensors")
    for job in plan.values():
        assert job.code == fingerprint(code_cells(paths.NOTEBOOKS / f"{job.notebook}.ipynb"))
        if job.kind == "results":
            assert job.needs == [name for name, each in plan.items() if each.kind == "evaluation"]
            continue
        name = job.facts["dataset"]
        manifest = dataset_digest(root) if name == "toy-aux" else name
        assert job.inputs == {"manifest": manifest, "weights": weights}
        assert set(job.parameters["settings"]) == sections[job.kind]
        assert job.threads == 3
        assert (f"features/{name}" in job.needs) == (job.kind != "features")
    trainings = [job for job in plan.values() if job.kind == "training"]
    found = {(job.facts["dataset"], job.parameters["settings"]["training"]["seed"]) for job in trainings}
    assert found == {(name, seed) for name in ("mini-a", "mini-b") for seed in (0, 5)}
    for row in plan["results"].facts["rows"]:
        needs = plan[row["run"]].needs
        assert (row["training"] in needs) if row["training"] else (len(needs) == 1)
        assert (row["mode"] is None) == (row["method"] == "clip")


def test_a_preset_changes_the_grids_settings_and_not_the_other_way_round(tmp_path):
    chosen = grid.load_grid(write(tmp_path, settings={"model": {"n_prompts": 7}}, ablations=["k"]))
    known = presets()
    assert profile_of(chosen, known["faprompt"], "paper", 0).model.n_prompts == 7
    assert profile_of(chosen, known["k-2"], "paper", 0).model.n_prompts == 2


def test_records_change_only_with_what_a_job_depends_on(tmp_path):
    chosen = grid.load_grid(write(tmp_path, ablations=[]))
    snakemake.write_plan(chosen, grid.plan(chosen, tmp_path), tmp_path, [])
    records = sorted((tmp_path / "jobs").rglob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in records}

    snakemake.write_plan(chosen, grid.plan(chosen, tmp_path), tmp_path, [])
    assert {path: path.stat().st_mtime_ns for path in records} == before

    longer = chosen.model_copy(update={"settings": {"training": {"learning_rate": 1e-3}}})
    snakemake.write_plan(longer, grid.plan(longer, tmp_path), tmp_path, [])
    changed = {path for path in records if path.stat().st_mtime_ns != before[path]}
    assert {path.relative_to(tmp_path / "jobs").parts[0] for path in changed} == {"training", "evaluation"}
    assert not any("features" in path.parts for path in changed)


def test_a_changed_file_under_the_same_name_is_another_job(tmp_path):
    made = toy.write(paths.data() / "toy-aux", "toy-aux", each=2)
    chosen = grid.load_grid(
        write(tmp_path, profile="tiny", datasets={"toy-aux": ["mini-test"]}, baselines=[])
    )

    def inputs():
        return {job.name: job.inputs.get("manifest") for job in grid.plan(chosen, tmp_path)}

    before = inputs()
    assert inputs() == before
    (record, *_) = [record for record in made.records("test") if record.mask]
    image, mask = made.root / record.image, made.root / record.mask
    for what, change in (
        ("mask", lambda: mask.write_bytes(mask.read_bytes() + b" ")),
        ("image", lambda: os.utime(image, (1, 1))),
        ("rule", lambda: write_manifest(dataclasses.replace(made, mask_rule="half"), {})),
    ):
        change()
        now = inputs()
        assert now["features/toy-aux"] != before["features/toy-aux"], what
        assert now["features/mini-test"] == before["features/mini-test"]
        before = now


def finished(folder, name="features/x", result=lambda *_: None, monkeypatch=None):
    record = folder / "jobs" / f"{name}.json"
    write_sealed(record, dataclasses.asdict(grid.Job(name, "features", "01_clip_features", {})))
    monkeypatch.setattr("fap_lib.runs.notebook.run_notebook", result)
    return record


def test_a_job_is_done_entirely_or_not_at_all(tmp_path, monkeypatch):
    calls = []

    def half(_name, _parameters, place, _holds):
        calls.append(sorted(path.name for path in place.iterdir()))
        (place / "half").write_text("")
        if len(calls) == 1:
            raise KitError("the disk is full.")

    record = finished(tmp_path, result=half, monkeypatch=monkeypatch)
    with pytest.raises(KitError):
        jobs.run_job(record)
    assert not jobs.is_done(tmp_path, "features/x")
    assert jobs.failure(tmp_path, "features/x") == "the disk is full."

    jobs.run_job(record)
    assert calls[1] == ["half", "job.json", "lock"], "the same job continues what it left"
    assert jobs.is_done(tmp_path, "features/x")
    assert jobs.failure(tmp_path, "features/x") is None
    jobs.run_job(record)
    assert len(calls) == 2, "a finished job is not run again"

    write_sealed(record, {**jobs.read_record(record), "threads": 2})
    assert not jobs.is_done(tmp_path, "features/x")
    jobs.run_job(record)
    assert calls[2] == ["job.json", "lock"], "another job's leavings are gone"


def test_an_interrupted_job_ends_without_a_word(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", False)
    record = finished(tmp_path, result=interrupt, monkeypatch=monkeypatch)
    assert jobs.main([str(record)]) == 130
    assert capsys.readouterr().err == ""
    assert not jobs.is_done(tmp_path, "features/x")
    assert jobs.failure(tmp_path, "features/x") is None


def test_what_failed_and_what_waits_is_said_at_the_end(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise KitError("no such image.")

    record = finished(tmp_path, result=refuse, monkeypatch=monkeypatch)
    with pytest.raises(KitError):
        jobs.run_job(record)
    plan = [
        grid.Job("features/x", "features", "", {}),
        grid.Job("evaluation/x", "evaluation", "", {}, ["features/x"]),
        grid.Job("results", "results", "", {}, ["evaluation/x"]),
    ]
    for job in plan[1:]:
        file = tmp_path / "jobs" / f"{job.name}.json"
        file.parent.mkdir(exist_ok=True, parents=True)
        write_sealed(file, dataclasses.asdict(job))
    assert snakemake.conclude(plan, tmp_path, 1) == 1
    said = capsys.readouterr().err
    assert "failed: features/x: no such image." in said
    assert "not finished: 1 jobs" in said


def test_jobs_share_out_the_gpus(tmp_path, monkeypatch):
    seen = []

    def look(*_):
        seen.append(jobs.os.environ["CUDA_VISIBLE_DEVICES"])

    record = finished(tmp_path, result=look, monkeypatch=monkeypatch)
    monkeypatch.setenv(jobs.GPUS, "4,7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(jobs.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(jobs.getpass, "getuser", lambda: "me")
    with locked(tmp_path / "fap-gpu-me-4"):
        jobs.run_job(record)
    assert seen == ["7"]


def test_the_workflows_lock_satisfies_its_group_and_names_no_address():
    import tomllib

    from packaging.requirements import Requirement

    group = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]["workflow"]
    lines = (paths.WORKFLOW / "requirements.lock").read_text().splitlines()
    locked_ = [Requirement(line) for line in lines if line and not line.startswith((" ", "#"))]
    versions = {each.name: str(each.specifier).removeprefix("==") for each in locked_}
    for wanted in map(Requirement, group):
        assert versions[wanted.name] in wanted.specifier
    assert not any("://" in line for line in lines)


def test_a_full_disk_is_one_sentence_from_safetensors_too(tmp_path):
    """The words are those of safetensors on a full file system."""
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(KitError, match=r"cannot write .*: the disk is full"), disk_errors(tmp_path):
        raise error
    with pytest.raises(SafetensorError, match="shape"), disk_errors(tmp_path):
        raise SafetensorError("a tensor of another shape")
