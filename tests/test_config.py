"""Settings refuse what they do not know, in one sentence."""

import pytest

from fap_lib.core.config import ModelSettings, TrainSettings, load_profile, load_yaml
from fap_lib.core.errors import KitError
from fap_lib.runs.parameters import EvaluateRun


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"n_promts": 3}}, "unknown model setting 'n_promts'; known settings: mode, n_prompts"),
        ({"model": {"prior": "false"}}, "prior = 'false': input should be a valid boolean"),
        ({"training": {"learning_rate": "1e-4"}}, "learning_rate = '1e-4': input should be a valid number"),
        ({"training": {"epochs": 2.5}}, "epochs = 2.5: input should be a valid integer"),
        ({"training": {"epochs": 0}}, "epochs = 0: input should be greater than 0"),
        ({"training": {"learning_rate": float("nan")}}, "learning_rate = nan"),
        ({"model": {"mode": "official"}}, "mode = 'official': input should be 'paper' or 'released'"),
        ({"model": {"normal_tokens": 3}}, "deep_tokens = 4 must be at most normal_tokens = 3"),
        ({"modle": {}}, "unknown settings section 'modle'; known sections: features, model"),
        ({"model": 3}, "section 'model' must map names to values"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(KitError) as caught:
        load_profile("paper", changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_profile():
    with pytest.raises(KitError, match="known profiles: mini, paper, tiny"):
        load_profile("papr")


def test_integers_are_numbers_but_booleans_are_not():
    assert TrainSettings.parse({"learning_rate": 1}).learning_rate == 1.0
    with pytest.raises(KitError):
        TrainSettings.parse({"epochs": True})


def test_official_values_are_the_defaults():
    model, training = ModelSettings(), TrainSettings()
    assert (model.n_prompts, model.n_patches, model.normal_tokens, model.abnormal_tokens) == (10, 10, 5, 2)
    assert (model.deep_layers, model.deep_tokens, model.temperature) == (8, 4, 0.07)
    assert (training.epochs, training.batch_size, training.learning_rate) == (15, 8, 1e-3)
    assert load_profile("paper").features.vv_blocks == 19


def test_a_notebook_reads_its_parameters_strictly():
    import math as module

    names = {"data": "a", "prompts": "p", "run": "r", "In": [], "_x": 1, "module": module, "f": print}
    assert EvaluateRun.from_notebook(names).profile == "mini"
    with pytest.raises(KitError, match="unknown notebook setting 'devise'"):
        EvaluateRun.from_notebook({**names, "devise": "cpu"})


@pytest.mark.parametrize(("content", "message"), [("a: [", "cannot be read"), ("- 1", "must map names")])
def test_a_malformed_settings_file(tmp_path, content, message):
    path = tmp_path / "s.yaml"
    path.write_text(content)
    with pytest.raises(KitError, match=message):
        load_yaml(path, "settings file")
    with pytest.raises(KitError, match="there is no settings file"):
        load_yaml(tmp_path / "absent.yaml", "settings file")
