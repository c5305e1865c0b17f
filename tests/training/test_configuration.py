"""Configurations from recipe, file, options and assignments, and errors that name what was typed."""

import pytest
import yaml

from anymri.errors import ConfigurationError, LabelError
from anymri.training.configuration import TrainingConfiguration, resolve

OPTIONS = {"data": "somewhere", "label_scheme": "brats2023"}


def resolved(*assignments, file=None, **options):
    return resolve("u_hved", "nano", {**OPTIONS, **options}, file, assignments)


def test_a_recipe_resolves_to_its_values():
    configuration = resolved()
    assert configuration.recipe.system == "u_hved" and configuration.label_scheme == "brats2023"


def test_assignments_change_recipe_stage_and_nested_values():
    recipe = resolved(
        "seed=7", "epochs=2", "optimiser.learning_rate=1e-4", "network.width=4", "whole.crop=32",
        "preprocessing.normalisation=divide_255",
    ).recipe  # fmt: skip
    assert recipe.seed == 7
    assert all(stage.epochs == 2 and stage.optimiser.learning_rate == 1e-4 for stage in recipe.stages)
    assert [stage.crop == (32, 32, 32) for stage in recipe.stages if stage.name == "whole"] == [True]
    assert recipe.network["width"] == 4 and recipe.preprocessing.normalisation == "divide_255"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=2", r"no 'epoch' .*\nDid you mean epochs\?"),
        ("hole.epochs=2", r"no 'hole' .*\nDid you mean whole\.epochs\?"),
        ("whole.epoch=2", r"whole\.epoch: .* did you mean whole\.epochs\?"),
        ("whole=2", r"whole=2 names a stage without a field"),
        ("epochs=0", r"fit: epochs: .*\(given: 0\)\."),
        ("epochs=many", r"fit: epochs: .*\(given: 'many'\)\.\n"),
        ("whole.epochs=many", r"fit: whole\.epochs: .*\(given: 'many'\)\.\n"),
        ("optimiser.speed=1", r"fit: optimiser\.speed: .* known: name, learning_rate"),
        ("optimiser.lerning_rate=1", r"did you mean optimiser\.learning_rate\?\n"),
        ("network.widht=4", r"'widht', as in --set network\.widht=4\.\nDid you mean network\.width\?"),
        ("epochs", "not an assignment"),
        (".".join("a" * 17) + "=1", "has more than 16 keys"),
        ("system=mmformer", "cannot change system"),
        ("about=mine", "cannot change about"),
        ("sources=1", "cannot change sources"),
        ("epochs=true", r"fit: epochs: true and false are not values of this field \(given: True\)\.\n"),
        ("missing=true", r"fit: missing: true and false are not"),
        ("optimiser.learning_rate=yes", r"fit: optimiser\.learning_rate: true and false are not"),
        ("missing=2", r"fit: missing: input should be less than or equal to 1 \(given: 2\)\.\n"),
        ("missing=much", r"fit: missing: input should be a valid number[^;]*\(given: 'much'\)\.\n"),
        ("validation_epochs=0", r"fit: validation_epochs: input should be greater than or equal to 1 \(given: 0\)\.\n"),
        ("epochs=[", "value cannot be read as YAML, because brackets"),
        ("preprocessing.normalisation=none", r"fit: preprocessing\.normalisation: .*\(given: 'none'\)"),
    ],
)
def test_an_assignment_that_does_not_fit_is_refused_by_the_typed_key(assignment, message):
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
    assert resolve("u_hved", "corrected", {}, tmp_path / "config.yaml") == first
    assert TrainingConfiguration.model_validate(yaml.safe_load(first.to_yaml())) == first


def test_a_field_of_a_file_that_does_not_fit_is_refused_by_file_and_field(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("recipe:\n  validation_share: 2\n")
    with pytest.raises(ConfigurationError, match=r"mine\.yaml does not fit: recipe\.validation_share: .*\(given: 2\)"):
        resolved(file=file)


@pytest.mark.parametrize(("option", "value"), [("loggers", ("csv",)), ("device", 3)])
def test_an_option_that_does_not_fit_is_refused_by_its_name(option, value):
    with pytest.raises(ConfigurationError, match=r"fit: --(logger|device): "):
        resolved(**{option: value})


@pytest.mark.parametrize(("scheme", "message"), [("brats2022", "brats2022"), ("brats2012", "enhancing tumour")])
def test_a_label_scheme_that_cannot_be_trained_on_is_refused(scheme, message):
    with pytest.raises(LabelError, match=message):
        resolved(label_scheme=scheme)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"bad\.yaml"):
        resolved(file=tmp_path / "bad.yaml")


def test_missing_options_are_named():
    with pytest.raises(ConfigurationError, match="--data and --label-scheme"):
        resolve("u_hved", "nano", {})


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="corrected, reference, nano"):
        resolve("u_hved", "tiny", OPTIONS)


def test_preprocessed_cases_are_kept_in_their_part_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYMRI_CACHE", str(tmp_path))
    configuration = resolve("u_hved", "nano", {"data": tmp_path, "label_scheme": "brats2023"})
    assert configuration.cache == tmp_path / "patches"
