"""Weights as a MONAI bundle that MONAI's own functions run, and as a repository of Hugging Face."""

import json

import monai.bundle
import numpy as np
import pytest
import torch
import yaml

from anymri.data.image import read_image
from anymri.export.bundle import export_bundle
from anymri.export.bundle_network import network
from anymri.export.huggingface import export_huggingface
from anymri.synthesis.phantoms import write_cohort
from anymri.weights.card import DiceTable
from anymri.weights.store import read_card
from cli.command import anymri, check_refused
from untrained import write_weights

# What the specification of bundles requires of metadata.
REQUIRED = {"version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task"}
REQUIRED |= {"description", "authors", "copyright", "network_data_format", "schema", "name"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with weights, a bundle of them, a repository of them, and a phantom."""
    folder = tmp_path_factory.mktemp("models")
    table = DiceTable(data="phantoms", cases=2, dice={"T1c": {"WT": 0.5, "ET": 0.25}})
    write_weights(folder / "w.safetensors", tables=[table], licence="CC BY 4.0", frozen=("encoders.T1.",))
    write_cohort(folder / "cohort", 1, size=32)
    next(path for path in (folder / "cohort").iterdir() if path.is_dir()).rename(folder / "case")
    for to in ("bundle", "huggingface"):
        done = anymri("export", folder / "w.safetensors", "--to", to, "-o", folder / to)
        assert done.returncode == 0, done.stderr
    return folder


def segmented(place, weights, output):
    """Return the label map of the phantom by the command."""
    done = anymri("segment", place / "case", "--weights", weights, "-o", output)
    assert done.returncode == 0, done.stderr
    return read_image(output / "segmentation.nii.gz").array


# MONAI warns that every configuration is code.
@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_monai_runs_the_bundle_and_gives_the_label_map_of_the_command(place, tmp_path):
    monai.bundle.run(
        config_file=str(place / "bundle" / "configs" / "inference.json"),
        meta_file=str(place / "bundle" / "configs" / "metadata.json"),
        bundle_root=str(place / "bundle"),
        case=str(place / "case"),
        output_dir=str(tmp_path / "eval"),
        device="cpu",
    )
    expected = segmented(place, place / "w.safetensors", tmp_path / "out")
    np.testing.assert_array_equal(read_image(tmp_path / "eval" / "segmentation.nii.gz").array, expected)


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_monai_verifies_the_shapes_of_the_network(place):
    configs = place / "bundle" / "configs"
    monai.bundle.verify_net_in_out(
        "network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
        bundle_root=str(place / "bundle"),
    )


def test_the_bundle_has_the_files_and_keys_of_the_specification(place):
    files = {path.relative_to(place / "bundle").as_posix() for path in (place / "bundle").rglob("*") if path.is_file()}
    assert files >= {"configs/metadata.json", "configs/inference.json", "models/model.safetensors", "docs/README.md"}
    metadata = json.loads((place / "bundle" / "configs" / "metadata.json").read_text())
    assert metadata.keys() >= REQUIRED
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["channel_def"] == {"0": "T1", "1": "T1c", "2": "T2", "3": "FLAIR"}
    assert image["spatial_shape"] == [32, 32, 32]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["3"] == "ET"


def test_the_network_of_a_bundle_ignores_channels_that_are_not_available(place):
    module = network(place / "bundle" / "models" / "model.safetensors")
    image = torch.rand(1, 4, 32, 32, 32)
    available = torch.tensor([[False, True, False, True]])
    with torch.no_grad():
        before = module(image, available)
        image[:, [0, 2]] = torch.nan
        torch.testing.assert_close(module(image, available), before, rtol=0, atol=0)
    assert before.shape == (1, 4, 32, 32, 32) and float(before.sum(1).mean()) == pytest.approx(1)


def test_a_repository_has_a_card_with_front_matter_and_weights_that_work(place, tmp_path):
    text = (place / "huggingface" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["license"] == "cc-by-4.0" and about["library_name"] == "anymri" and "u_hved" in about["tags"]
    assert "| T1c | 0.500 | 0.250 |" in body and "not for diagnosis" in body
    config = json.loads((place / "huggingface" / "config.json").read_text())
    assert config["system"] == "u_hved" and config["network"]["width"] == 4
    expected = segmented(place, place / "w.safetensors", tmp_path / "a")
    weights = place / "huggingface" / "model.safetensors"
    np.testing.assert_array_equal(segmented(place, weights, tmp_path / "b"), expected)


def test_frozen_tensors_are_copied_with_their_name(place):
    card = read_card(place / "w.safetensors")
    assert card.frozen_file is not None
    assert (place / "huggingface" / card.frozen_file).is_file()
    assert (place / "bundle" / "models" / card.frozen_file).is_file()


def test_unknown_licences_are_named_as_other(place, tmp_path):
    write_weights(tmp_path / "w.safetensors", licence="our licence: see us")
    folder = export_huggingface(tmp_path / "w.safetensors", tmp_path / "out")
    about = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert about["license"] == "other" and about["license_name"] == "our licence: see us"


def test_options_that_do_not_fit_and_folders_in_use_are_refused(place, tmp_path):
    weights = place / "w.safetensors"
    check_refused(anymri("export", weights, "--to", "bundl", "-o", tmp_path / "x"), "bundle")
    check_refused(anymri("export", weights, "--to", "bundle", "-o", place / "bundle"), "not an empty folder")
    check_refused(anymri("export", weights, "--to", "bundle", "--subset", "T1c", "-o", tmp_path / "x"), "--subset")
    options = ["--to", "huggingface", "--label-scheme", "brats2023", "-o", tmp_path / "x"]
    check_refused(anymri("export", weights, *options), "--label-scheme")
    assert export_bundle(weights, tmp_path / "y") == tmp_path / "y" and not (tmp_path / "x").exists()
