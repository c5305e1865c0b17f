"""Installed weights: where they are found, in which order, and how they are removed."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import anymri
from anymri.errors import WeightsError
from anymri.weights import folders
from anymri.weights.card import WeightsCard
from anymri.weights.catalogue import find_installed, installed, remove, verify
from anymri.weights.choice import choose
from anymri.weights.locate import find_weights
from anymri.weights.store import load_weights, save_weights
from untrained import card, write_weights


def test_without_the_variable_weights_are_in_the_data_folder_of_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("ANYMRI_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert folders.folders() == (tmp_path / "anymri" / "weights",)
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert folders.folders() == (tmp_path / "local" / "anymri" / "weights",)
    monkeypatch.setattr("sys.platform", "darwin")
    assert folders.folders() == (Path.home() / "Library" / "Application Support" / "anymri" / "weights",)


def test_all_folders_are_listed_added_weights_before_starters(places):
    write_weights(places.starters / "a.safetensors")
    write_weights(places.shared / "c.safetensors", frozen=("encoders.T1",))
    write_weights(places.user / "b.safetensors")
    (places.user / "notes.txt").write_text("not weights")
    assert [(each.name, each.is_starter) for each in installed()] == [("b", False), ("c", False), ("a", True)]


def test_of_equal_names_the_first_folder_has_precedence(places):
    for folder in (places.user, places.shared, places.starters):
        write_weights(folder / "same.safetensors")
    assert [each.file for each in installed()] == [places.user / "same.safetensors"]


def test_a_folder_that_does_not_exist_does_not_hide_the_others(places, monkeypatch):
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(places.user / "nowhere"))
    write_weights(places.starters / "starter.safetensors")
    assert [each.name for each in installed()] == ["starter"]


def test_an_installed_name_is_loaded_and_a_path_has_precedence(places, monkeypatch, tmp_path):
    write_weights(places.user / "tumour.safetensors")
    assert anymri.load("tumour", device="cpu").weights == places.user / "tumour.safetensors"
    monkeypatch.chdir(tmp_path)
    write_weights(tmp_path / "tumour")
    assert find_weights(Path("tumour")) == Path("tumour")


def test_an_unknown_name_is_refused_with_the_closest(places):
    write_weights(places.user / "tumour.safetensors")
    for search in (lambda: find_weights(Path("tumuor")), lambda: find_installed("tumuor")):
        with pytest.raises(WeightsError, match="Did you mean tumour"):
            search()


def test_added_weights_are_removed_and_starters_are_not(places):
    write_weights(places.user / "mine.safetensors")
    write_weights(places.starters / "starter.safetensors")
    remove("mine")
    with pytest.raises(WeightsError, match="part of anymri"):
        remove("starter")
    assert [each.name for each in installed()] == ["starter"]


def test_frozen_tensors_are_removed_with_the_last_weights_that_need_them(places):
    for name in ("first", "second"):
        write_weights(places.user / f"{name}.safetensors", frozen=("encoders.T1",))
    remove("first")
    assert len(list(places.user.glob("frozen-*"))) == 1
    verify(find_installed("second"))
    remove("second")
    assert list(places.user.iterdir()) == []


def test_damaged_weights_can_be_removed(places):
    (places.user / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged"):
        verify(find_installed("broken"))
    remove("broken")
    assert installed() == []


def test_weights_with_a_card_of_required_fields_alone_are_usable(places):
    file = write_weights(places.user / "old.safetensors")
    required = {name for name, field in WeightsCard.model_fields.items() if field.is_required()}
    fields = {name: value for name, value in json.loads(card().model_dump_json()).items() if name in required}
    save_file(load_file(file), file, metadata={"anymri": json.dumps(fields)})
    verify(find_installed("old"))
    assert choose(None).weights.name == "old"


def test_a_card_can_be_completed_and_saved_again(places):
    file = write_weights(places.user / "first.safetensors", frozen=("encoders.T1",))
    system, found = load_weights(file)
    completed = WeightsCard.model_validate(found.model_dump() | {"summary": "For tests."})
    save_weights(places.user / "second.safetensors", system.state_dict(), completed)
    remove("first")
    verify(find_installed("second"))
    assert find_installed("second").card().summary == "For tests."
