"""The kit computes what the official code computes."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN

from fap_lib.official import parity


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, float, float]]:
    return parity.compare(GOLDEN)


def test_every_array_of_the_official_code_is_met(rows):
    assert len(rows) == 100
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


def test_one_wrong_array_makes_the_exit_status_1(tmp_path, capsys):
    def change(content):
        content["paper/prior"] = content["paper/prior"] * (1 + 1e-4)

    assert parity.main([str(_rewrite(tmp_path / "wrong.npz", change))]) == 1
    assert "1 over the tolerance" in capsys.readouterr().out


def test_sampled_arrays_of_large_models_are_compared(tmp_path):
    def change(content):
        config = json.loads(str(content["config"])) | {"full": False}
        content["config"] = np.array(json.dumps(config))
        for mode in ("official", "paper"):
            content[f"{mode}/patch_features_raw_every97"] = content.pop(f"{mode}/patch_features_raw")[:, ::97]
            for name in ("anomaly_map", "anomaly_map_sigma10"):
                content[f"{mode}/{name}_every37"] = content.pop(f"{mode}/{name}")[:, ::37, ::37]
            for key in [
                k for k in content if k.startswith((f"{mode}/grad", f"{mode}/after", f"{mode}/train"))
            ]:
                del content[key]

    found = {key: error for key, error, _ in parity.compare(_rewrite(tmp_path / "large.npz", change))}
    assert len(found) == 46
    assert max(found.values()) <= 1e-5
    assert "paper/anomaly_map_sigma10_every37" in found


def test_an_array_the_kit_does_not_know_is_not_passed_over(tmp_path, capsys):
    path = _rewrite(tmp_path / "new.npz", lambda content: content.update({"paper/unknown": np.zeros(2)}))
    assert parity.main([str(path)]) == 2
    assert "paper/unknown" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"not an archive"])
def test_a_file_that_is_no_parity_file_is_named(tmp_path, capsys, content):
    path = tmp_path / "file.npz"
    if content is not None:
        path.write_bytes(content)
    assert parity.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err
