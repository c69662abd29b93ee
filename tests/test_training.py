"""Training: resumes bit for bit, refuses what it cannot learn from, logs every step."""

import copy
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from safetensors import safe_open
from safetensors.torch import load_file

from fap_lib.clip.backbone import TINY, load_backbone
from fap_lib.core.config import FeatureSettings, ModelSettings, TrainSettings
from fap_lib.core.errors import KitError
from fap_lib.data.features import features
from fap_lib.data.manifest import read_manifest
from fap_lib.model import FAPrompt
from fap_lib.training import LOG, PROMPTS, STATE, batches, losses, make_optimiser, step, train

SETTINGS = TrainSettings(epochs=3, batch_size=5, save_every=2, seed=7)


def fresh_model(backbone, **changes) -> FAPrompt:
    torch.manual_seed(1)
    return FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2, **changes), backbone.patch_width)


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def test_every_epoch_sees_every_image_once_in_its_own_order():
    seen = list(batches(12, SETTINGS))
    assert [step for _, step, _ in seen] == list(range(1, 10))
    orders = [np.concatenate([index for e, _, index in seen if e == epoch]) for epoch in (1, 2, 3)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])


@pytest.mark.parametrize("done", range(9))
def test_a_resumed_order_is_the_rest_of_the_whole(done):
    whole, rest = list(batches(12, SETTINGS)), list(batches(12, SETTINGS, done))
    assert [(e, s, i.tolist()) for e, s, i in rest] == [(e, s, i.tolist()) for e, s, i in whole[done:]]


def test_the_loss_falls_and_the_log_is_complete(dataset, backbone, small, tmp_path):
    cache = features(dataset, "test", backbone, small)
    model = fresh_model(backbone)
    settings = TrainSettings(epochs=6, batch_size=8, keep_epochs=[2])
    path = train(model, cache, settings, tmp_path, validate=lambda _: {"image_auroc": 0.5})
    log = [line for line in log_of(tmp_path) if "total" in line]
    assert [line["step"] for line in log] == list(range(1, 13))
    assert log[-1]["total"] < log[0]["total"]
    assert [line["validation"] for line in log_of(tmp_path) if "validation" in line] == [
        {"image_auroc": 0.5}
    ] * 6
    assert path == tmp_path / PROMPTS
    assert (tmp_path / "epoch_02.safetensors").exists()
    assert not (tmp_path / STATE).exists()


def test_steps_are_those_of_adam_on_each_batchs_own_loss(dataset, backbone, small):
    """Written out: gradients of this batch alone, the settings' learning rate and betas (`train.py:49`)."""
    cache = features(dataset, "test", backbone, small)
    settings = SETTINGS.model_copy(update={"learning_rate": 0.01})
    model = fresh_model(backbone)
    other = copy.deepcopy(model)
    optimiser = make_optimiser(model, settings)
    plain = torch.optim.Adam(other.parameters(), lr=0.01, betas=(0.5, 0.999))
    for index in np.arange(12).reshape(3, 4):
        step(model, optimiser, cache, index, settings)
        static = other.static_text()
        prediction = other(*cache.features(index), static, cache.seeds(index))
        label = torch.tensor([cache.labels[i] for i in index])
        total = losses(prediction, static, label, cache.masks(index), settings)["total"]
        values = list(other.parameters())
        for value, gradient in zip(values, torch.autograd.grad(total, values), strict=True):
            value.grad = gradient
        plain.step()
    for value, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(value, expected, atol=1e-6)


def test_the_same_seed_gives_the_same_prompts(dataset, backbone, small, tmp_path):
    cache = features(dataset, "test", backbone, small)
    one, two = (
        load_file(train(fresh_model(backbone), cache, SETTINGS, tmp_path / name)) for name in ("one", "two")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = SETTINGS.model_copy(update={"seed": 8})
    three = load_file(train(fresh_model(backbone), cache, other, tmp_path / "three"))
    assert not torch.equal(one["prompts.abnormal"], three["prompts.abnormal"])


def run_slowly(data: Path, folder: Path, home: Path, pause: float) -> None:
    """A training whose every step takes `pause` seconds, in a process that can be killed."""
    os.environ["FAP_HOME"] = str(home)
    torch.set_num_threads(1)

    def wait(_: dict) -> None:
        time.sleep(pause)

    backbone = load_backbone(TINY)
    small = FeatureSettings(backbone=TINY, image_size=70, vv_blocks=2)
    cache = features(read_manifest(data), "test", backbone, small)
    settings = TrainSettings(epochs=6, batch_size=5, save_every=2, seed=7)
    train(fresh_model(backbone, selection="random"), cache, settings, folder, follow=wait)


def test_kill_9_and_resume_equals_the_uninterrupted_run_bit_for_bit(tmp_path, home):
    data = toy.write(tmp_path / "toy", "toy-aux", each=4).root
    # A server that has imported the kit once forks each process.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["fap_lib.training", "fap_lib.clip.backbone", "fap_lib.data.features"])

    def start(folder: Path, pause: float) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=run_slowly, args=(data, folder, home, pause))
        process.start()
        return process

    def finish(folder: Path) -> None:
        process = start(folder, 0)
        process.join(120)
        assert process.exitcode == 0

    finish(tmp_path / "whole")
    killed = tmp_path / "killed"
    for _ in range(2):  # in the middle of an epoch, twice
        process = start(killed, 0.15)
        seen = json.loads(log_line) if (log_line := last_line(killed)) else {"step": 0}
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.is_alive():
            now = last_line(killed)
            if (killed / STATE).exists() and now and json.loads(now)["step"] >= seen["step"] + 3:
                break
            time.sleep(0.02)
        assert process.is_alive(), "the run ended before it could be killed"
        process.kill()
        process.join()
    assert not (killed / PROMPTS).exists()
    finish(killed)

    one, two = load_file(tmp_path / "whole" / PROMPTS), load_file(killed / PROMPTS)
    assert all(torch.equal(one[name], two[name]) for name in one)
    steps = [line["step"] for line in log_of(killed)]
    assert steps == list(range(1, 25))
    for mine, theirs in zip(log_of(killed), log_of(tmp_path / "whole"), strict=True):
        assert mine["total"] == theirs["total"]


def last_line(folder: Path) -> str | None:
    """The last complete line of the log that reached the disk, if any."""
    path = folder / LOG
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    complete = [line for line in lines if line.endswith("\n")]
    return complete[-1] if complete else None


def interrupted(cache, backbone, settings: TrainSettings, folder: Path, after: int) -> None:
    """A training that was stopped once it had logged step `after`."""

    def stop(line: dict) -> None:
        if line["step"] == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh_model(backbone), cache, settings, folder, follow=stop)


def test_other_settings_or_data_do_not_continue_a_run(dataset, backbone, small, tmp_path):
    cache = features(dataset, "test", backbone, small)
    interrupted(cache, backbone, SETTINGS, tmp_path, after=4)
    other_features = copy.copy(cache)
    other_features.settings = small.model_copy(update={"class_norm": True})
    others = [
        (fresh_model(backbone), cache, SETTINGS.model_copy(update={"learning_rate": 2e-3})),
        (fresh_model(backbone, temperature=0.1), cache, SETTINGS),
        (fresh_model(backbone), cache.part(np.arange(15)), SETTINGS),
        (fresh_model(backbone), other_features, SETTINGS),
    ]
    for model, data, settings in others:
        with pytest.raises(KitError, match="interrupted training with other settings or data"):
            train(model, data, settings, tmp_path)
    assert (tmp_path / STATE).exists()


def test_a_state_is_saved_at_the_end_of_each_epoch(dataset, backbone, small, tmp_path):
    """However many steps `save_every` says."""
    cache = features(dataset, "test", backbone, small)
    settings = SETTINGS.model_copy(update={"save_every": 1000})
    interrupted(cache, backbone, settings, tmp_path, after=6)  # the second of the second epoch's four steps
    with safe_open(tmp_path / STATE, framework="pt") as file:
        assert file.metadata()["step"] == "4"
    again: list[int] = []
    model = fresh_model(backbone)
    train(model, cache, settings, tmp_path, follow=lambda line: again.append(line["step"]))
    assert again == list(range(5, 13))
    assert [line["step"] for line in log_of(tmp_path)] == list(range(1, 13))


def test_images_without_mask_or_label_are_refused(dataset, backbone, small, tmp_path):
    from dataclasses import replace

    cache = features(dataset, "test", backbone, small)
    whole = list(cache.records)
    cache.records = [replace(record, mask=None) for record in whole]
    with pytest.raises(KitError, match="has no mask, and training needs masks"):
        train(fresh_model(backbone), cache, SETTINGS, tmp_path / "run")
    cache.records = [replace(record, label=None) for record in whole]
    with pytest.raises(KitError, match="has no label"):
        train(fresh_model(backbone), cache, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(dataset, backbone, small, tmp_path):
    cache = features(dataset, "test", backbone, small)
    wild = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(KitError, match="lower learning_rate"):
        train(fresh_model(backbone), cache, wild, tmp_path)
    assert not (tmp_path / PROMPTS).exists()


def test_gpu_out_of_memory_suggests_a_batch(dataset, backbone, small, tmp_path, monkeypatch):
    cache = features(dataset, "test", backbone, small)

    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FAPrompt, "static_text", full)
    with pytest.raises(KitError, match="batch of 5; set batch_size to 2"):
        train(fresh_model(backbone), cache, SETTINGS, tmp_path)
