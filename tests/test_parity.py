"""The kit computes what the official code computes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy import GOLDEN

from fap_lib.clip.backbone import Backbone
from fap_lib.official import parity


@pytest.fixture(scope="module", autouse=True)
def _built_once(golden_backbone: Backbone) -> Iterator[None]:
    """The files of these tests hold one model; drawing its weights takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "build_backbone", lambda _: golden_backbone)
        yield


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, float, float]]:
    return parity.compare(GOLDEN)


def test_every_array_of_the_official_code_is_met(rows):
    with np.load(GOLDEN) as file:
        assert {key for key, _, _ in rows} == set(file.files) - {"config"}
    over = {key: error for key, error, limit in rows if not error <= limit}
    assert over == {}


def test_both_modes_reach_gradients_and_optimiser_steps(rows):
    keys = {key for key, _, _ in rows}
    for mode in ("official", "paper"):
        assert f"{mode}/grad_norm/patch_meta_net.linear1.weight" in keys
        assert f"{mode}/after3_head/compound_prompts_text.1" in keys


def test_the_modes_differ_where_they_should():
    with np.load(GOLDEN) as file:
        assert not np.allclose(file["official/prior"], file["paper/prior"], rtol=1e-3)
        assert np.array_equal(file["official/text_abnormal"], file["paper/text_abnormal"])


def _rewrite(target: Path, change) -> Path:
    with np.load(GOLDEN) as file:
        content = {key: file[key] for key in file.files}
    change(content)
    np.savez(target, **content)
    return target


def without_training(content) -> None:
    """Leave out what a large model's file leaves out: gradients and optimiser steps."""
    content["config"] = np.array(json.dumps(json.loads(str(content["config"])) | {"full": False}))
    for key in list(content):
        if key.split("/")[1:2] in (["grad_norm"], ["grad_head"], ["after3_head"], ["train_total"]):
            del content[key]


def test_one_wrong_array_makes_the_exit_status_1(tmp_path, capsys):
    def change(content):
        without_training(content)
        content["paper/prior"] = content["paper/prior"] * (1 + 1e-4)

    assert parity.main([str(_rewrite(tmp_path / "wrong.npz", change))]) == 1
    assert "1 over the tolerance" in capsys.readouterr().out


def test_sampled_arrays_of_large_models_are_compared(tmp_path):
    def change(content):
        without_training(content)
        for mode in ("official", "paper"):
            content[f"{mode}/patch_features_raw_every97"] = content.pop(f"{mode}/patch_features_raw")[:, ::97]
            for name in ("anomaly_map", "anomaly_map_sigma10"):
                content[f"{mode}/{name}_every37"] = content.pop(f"{mode}/{name}")[:, ::37, ::37]

    found = {key: error for key, error, _ in parity.compare(_rewrite(tmp_path / "large.npz", change))}
    with np.load(tmp_path / "large.npz") as file:
        assert set(found) == set(file.files) - {"config"}
    assert max(found.values()) <= 1e-5
    assert "paper/anomaly_map_sigma10_every37" in found


def test_an_array_the_kit_does_not_know_is_not_passed_over(tmp_path, capsys):
    def change(content):
        without_training(content)
        content["paper/unknown"] = np.zeros(2)

    path = _rewrite(tmp_path / "new.npz", change)
    assert parity.main([str(path)]) == 2
    assert "paper/unknown" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"not an archive"])
def test_a_file_that_is_no_parity_file_is_named(tmp_path, capsys, content):
    path = tmp_path / "file.npz"
    if content is not None:
        path.write_bytes(content)
    assert parity.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err
