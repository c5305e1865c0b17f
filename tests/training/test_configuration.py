import pytest
import yaml

from anymri.errors import ConfigurationError
from anymri.training.configuration import TrainingConfiguration, resolve

OPTIONS = {"data": "somewhere", "label_scheme": "brats2023"}


def resolved(*assignments, file=None, **options):
    return resolve("u_hved", "nano", {**OPTIONS, **options}, file, assignments)


def test_a_recipe_resolves_to_its_own_values():
    configuration = resolved()
    assert configuration.recipe.system == "u_hved" and configuration.label_scheme == "brats2023"


def test_assignments_reach_recipe_stage_and_nested_values():
    recipe = resolved(
        "seed=7", "epochs=2", "optimiser.learning_rate=1e-4", "network.width=4", "whole.crop=32",
        "preprocessing.normalisation=divide_255",
    ).recipe  # fmt: skip
    assert recipe.seed == 7
    assert all(stage.epochs == 2 and stage.optimiser.learning_rate == 1e-4 for stage in recipe.stages)
    assert [stage.crop == 32 for stage in recipe.stages if stage.name == "whole"] == [True]
    assert recipe.network["width"] == 4 and recipe.preprocessing.normalisation == "divide_255"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=2", "epochs"),
        ("epochs=0", "stages.0.epochs"),
        ("epochs=many", "stages.0.epochs"),
        ("optimiser.speed=1", "optimiser.speed"),
        ("epochs", "no assignment"),
        ("preprocessing.normalisation=none", "normalisation"),
    ],
)
def test_an_assignment_that_does_not_fit_is_refused_by_its_name(assignment, message):
    with pytest.raises(ConfigurationError, match=message):
        resolved(assignment)


def test_a_file_changes_only_what_it_names_and_options_win(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("label_scheme: brats2021\ndevice: cpu\nrecipe:\n  seed: 5\n")
    configuration = resolved(file=file)
    assert (configuration.device, configuration.recipe.seed) == ("cpu", 5)
    assert configuration.label_scheme == "brats2023"


def test_a_saved_configuration_resolves_to_itself(tmp_path):
    first = resolved("epochs=3", "network.width=4")
    (tmp_path / "config.yaml").write_text(first.to_yaml())
    assert resolve("u_hved", "published", {}, tmp_path / "config.yaml") == first
    assert TrainingConfiguration.model_validate(yaml.safe_load(first.to_yaml())) == first


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"bad\.yaml"):
        resolved(file=tmp_path / "bad.yaml")


def test_what_training_needs_is_asked_for():
    with pytest.raises(ConfigurationError, match="--data and --label-scheme"):
        resolve("u_hved", "nano", {})


def test_an_unknown_recipe_is_answered_with_the_known():
    with pytest.raises(ConfigurationError, match="published, nano"):
        resolve("u_hved", "tiny", OPTIONS)
