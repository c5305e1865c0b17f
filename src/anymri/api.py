"""Functions of the Python API that compose several modules; `anymri` exports them with those of other modules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymri.data.case import Case, Study
    from anymri.prepare.preparation import Preparation
    from anymri.training.callbacks import TrainingCallback
    from anymri.training.own_loss import Loss


def list_systems() -> list[str]:
    """Return the names of all systems, those of installed packages included.

    >>> import anymri
    >>> "mmformer" in anymri.list_systems()
    True
    """
    from anymri.systems.registry import names

    return names()


def find_cases(folder: Path | str) -> list[Case]:
    """Return the cases of a cohort, sorted by name.

    folder  a folder in the layout of BraTS 2018 to 2024, BIDS or nnU-Net, a CSV manifest, or a folder of one case

    Raises `CohortError` if there is no case and `ImageError` for an image that cannot be read. An `InputWarning` lists
    what is not used.

    >>> import anymri
    >>> [str(case.subset) for case in anymri.find_cases("COHORT")]
    ['T1+T1c+T2+FLAIR', 'T1+T1c+T2+FLAIR']
    """
    from anymri.data.layouts import find_cases as find

    return find(Path(folder))


def read_case(case: Case | Path | str | Mapping[str, Path | str], label_scheme: str | None = None) -> Study:
    """Read the scans of a case as arrays on one grid.

    case          a case, a case folder, or scans: any alias of a modality -> file, as in {"t1c": "t1c.nii.gz"}
    label_scheme  meaning of the label values, for example "brats2023", to read the label map too
    returns       `images`: modality -> (X, Y, Z) float32 in LPS, values as in the file; `affine`: voxels to RAS+ mm

    Raises an `AnymriError` that names the file and the remedy.

    >>> import anymri
    >>> study = anymri.read_case("CASE", label_scheme="brats2023")
    >>> study.images["T1c"].shape == study.classes.shape
    True
    """
    from anymri.data.case import read_study
    from anymri.inference.case_input import as_case
    from anymri.regions import label_scheme as find_scheme

    return read_study(as_case(case), None if label_scheme is None else find_scheme(label_scheme))


def prepare_scans(
    scans: Path | str | Mapping[str, Path | str],
    *,
    brain_mask: Path | str | None = None,
    brain: str = "auto",
    registration: bool = True,
    n4: bool = False,
) -> Preparation:
    """Bring raw scans of one patient to one grid, as far as needed, as `anymri segment` does.

    scans         a folder, file or zip archive with images or DICOM series; or any alias of a modality -> such a place
    brain_mask    mask of the brain, for scans with skull
    brain         how the brain is found in scans with skull: auto, deepbet, hd-bet, fallback or none
    registration  whether scans on different grids are registered; otherwise their headers are trusted
    n4            correct the bias fields
    returns       `study`: the scans as arrays on one grid; `record()`: what was done; `bring(modality, values)`: a map
                  of that grid on the grid of a scan. `Segmenter.segment` takes it

    Raises an `AnymriError` that names the file and the remedy.

    >>> import anymri
    >>> anymri.prepare_scans("CASE").record()  # nothing was needed
    []
    """
    from anymri.prepare.preparation import prepare
    from anymri.prepare.raw import read_raw

    mask = None if brain_mask is None else Path(brain_mask)
    if isinstance(scans, Mapping):
        raw = read_raw(scans={name: Path(path) for name, path in scans.items()}, brain_mask=mask)
    else:
        raw = read_raw(scans, brain_mask=mask)
    return prepare(raw, brain, n4, registration)


def train(
    system: str,
    data: Path | str,
    label_scheme: str,
    output: Path | str,
    recipe: str | None = None,
    *,
    initial_weights: Path | str | None = None,
    device: str = "auto",
    cache: Path | str | None = None,
    loggers: Sequence[str] = (),
    resume: bool = False,
    callback: TrainingCallback | None = None,
    loss: Loss | str | None = None,
    **settings: Any,
) -> Path:
    """Train a system on a cohort and return the file of its best weights.

    data             a labelled cohort: a folder or CSV manifest; or "synthetic"
    label_scheme     meaning of its label values, for example "brats2023"
    output           run folder to write
    recipe           a recipe of the system: corrected (the default), reference, nano, ...
    initial_weights  weights of the same network to begin with
    device           auto, cpu, cuda, cuda:1, mps
    cache            folder of preprocessed cases; by default `patches` in $ANYMRI_CACHE or in the cache of the user
    loggers          mlflow, wandb
    resume           continue the run in `output`
    callback         receives each case, step and epoch; by default nothing is shown
    loss             a function of the system and a batch, or "package.module:function", in place of the objectives of
                     all stages; returns a scalar tensor or a `StepLoss`. To resume a run, give it again
    settings         changes of the recipe as in --set: epochs=2, or nested ones as in **{"network.width": 4}

    Raises an `AnymriError` before any work if something does not fit, `Interrupted` after Ctrl-C with all saved.

    >>> import anymri
    >>> changes = {"epochs": 1, "steps_per_epoch": 1, "crop": 32, "network.width": 4}
    >>> weights = anymri.train("u_hved", "COHORT", "brats2023", "NEW_RUN", recipe="nano", **changes)
    >>> weights.name
    'best.safetensors'
    """
    from anymri.extras import need

    need("train", "lightning", "monai", "tensorboard")
    from anymri.training.callbacks import TrainingCallback
    from anymri.training.configuration import path_options, resolve
    from anymri.training.engine import train as run_training
    from anymri.training.own_loss import find_loss, name_of
    from anymri.training.run import Run

    own = None if loss is None else find_loss(loss)
    options = {
        **path_options(data, cache, initial_weights),
        "label_scheme": label_scheme,
        "device": device,
        "loggers": tuple(loggers),
        "loss": None if own is None else name_of(own),
    }
    # JSON is YAML, which assignments are read as.
    assignments = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    configuration = resolve(system, recipe, options, assignments=assignments)
    run = Run(Path(output))
    run_training(configuration, run.folder, callback or TrainingCallback(), resume, loss=own)
    return run.best if run.best.exists() else run.last
