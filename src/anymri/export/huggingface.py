"""Weights in the layout of a model repository of Hugging Face: a model card, config.json and safetensors files.

Nothing is sent anywhere: the folder is written, and its owner decides whether and how to publish it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from anymri.export.formats import HUGGINGFACE, check_folder
from anymri.export.model_card import description, dice_table, title
from anymri.files import new_folder, write_json, write_text
from anymri.weights.card import WeightsCard
from anymri.weights.locate import find_weights
from anymri.weights.store import read_card

MODEL = "model.safetensors"
# Licences that Hugging Face has an identifier for -> that identifier.
_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC BY 4.0": "cc-by-4.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC BY-NC 4.0": "cc-by-nc-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
}


def export_huggingface(weights: Path, output: Path) -> Path:
    """Write weights as a model repository into a new folder, whole or not at all, and return it.

    weights  a weights file, run folder or name of installed weights

    The weights keep their card, so that `--weights FOLDER/model.safetensors` works. Raises `WeightsError` for weights
    that cannot be read, `OutputError` if the folder is in use or cannot be written.
    """
    check_folder(output, HUGGINGFACE)
    file = find_weights(weights)
    card = read_card(file)
    with new_folder(output) as folder:
        copy_weights(file, card, folder / MODEL)
        write_json(folder / "config.json", card.model_dump(mode="json"))
        write_text(folder / "README.md", _readme(card))
    return output


def copy_weights(file: Path, card: WeightsCard, target: Path) -> None:
    """Copy a weights file, and the file of its frozen tensors if there is one, which keeps its name."""
    shutil.copyfile(file, target)
    if card.frozen_file is not None:
        shutil.copyfile(file.parent / card.frozen_file, target.parent / card.frozen_file)


def _readme(card: WeightsCard) -> str:
    """Return the model card: front matter in YAML, and text."""
    licence = _LICENCES.get(card.licence, "other")
    front = ["---", f"license: {licence}"]
    if licence == "other":
        front += [f"license_name: {json.dumps(card.licence or 'unknown')}"]
    front += ["library_name: anymri", "pipeline_tag: image-segmentation", "tags:"]
    front += [f"- {tag}" for tag in ("medical", "mri", "brain-tumor", "glioma", "missing-modalities", card.system)]
    front.append("---")
    use = [
        "## Use",
        "",
        "```bash",
        "pip install anymri",
        f"anymri segment CASE --weights FOLDER_OF_THIS_MODEL/{MODEL} -o OUT",
        "```",
    ]
    table = ["## Evaluation", "", *lines, ""] if (lines := dice_table(card)) else []
    paragraphs = [line for paragraph in description(card) for line in (paragraph, "")]
    origin = ["## Origin", "", f"{card.origin}. Licence of the weights: {card.licence or 'not stated'}."]
    return "\n".join([*front, "", f"# {title(card)}", "", *paragraphs, *use, "", *table, *origin]) + "\n"
