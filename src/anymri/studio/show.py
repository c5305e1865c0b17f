"""A result or a case in a notebook: an interactive viewer where one is installed, a picture otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import from_lps
from anymri.errors import ConfigurationError, GeometryError
from anymri.extras import need
from anymri.modalities import REFERENCE_ORDER, parse_modality

if TYPE_CHECKING:
    from anymri.data.case import Case, Study
    from anymri.inference.result import Result
    from anymri.prepare.in_memory import Volume
    from anymri.prepare.preparation import Preparation
    from anymri.prepare.raw import RawStudy

_HEIGHT = 420
_OPACITY = 0.5


@dataclass(frozen=True, eq=False)
class _Shown:
    """Scans and label map on one grid, (x, y, z) with their affine; None without a label map."""

    scans: Mapping[str, NDArray[Any]]
    affine: NDArray[np.float64]
    classes: NDArray[np.uint8] | None


def show(
    content: Result | Preparation | RawStudy | Study | Case | Path | str | Mapping[str, Path | str | Volume],
    modality: str | None = None,
    *,
    label_scheme: str | None = None,
    interactive: bool | None = None,
) -> Any:
    """Show a result or a case in a notebook, and return the widget or the picture.

    content       a result, whose label map is drawn on its scans; or a case as `Segmenter.segment` takes it
    modality      scan of the interactive viewer, by default the first of T1c, FLAIR, T2 and T1 that exists
    label_scheme  meaning of the label values of a case, for example "brats2023", to draw its label map too
    interactive   whether to use NiiVue, with the extra `notebook`; by default where it is installed. The picture has
                  three slices of every scan, with the extra `report`

    Raises an `AnymriError` for a case that cannot be read, and `GeometryError` for scans on different grids.

    >>> import anymri
    >>> figure = anymri.show("CASE", label_scheme="brats2023", interactive=False)
    """
    viewer = find_spec("ipyniivue") is not None if interactive is None else interactive
    if viewer:
        need("notebook", "ipyniivue", purpose="The interactive viewer")
    else:
        need("report", "matplotlib", purpose="The picture")
    shown = _shown(content, label_scheme)
    if not viewer:
        from anymri.report.case_montage import case_montage, result_montage

        if _is_result(content):
            return result_montage(content)
        classes = np.zeros(next(iter(shown.scans.values())).shape, np.uint8) if shown.classes is None else shown.classes
        return case_montage(shown.scans, classes, shown.affine)
    name = next(m for m in REFERENCE_ORDER if m in shown.scans) if modality is None else parse_modality(modality)
    if name not in shown.scans:
        raise ConfigurationError(f"There is no {name} scan.", f"Choose one of {', '.join(shown.scans)}.")
    return _viewer(name, shown)


def _is_result(content: object) -> TypeGuard[Result]:
    """Return whether something is a result; without importing its class, which takes seconds."""
    return hasattr(content, "measurements")


def _shown(content: Any, label_scheme: str | None) -> _Shown:
    if _is_result(content):
        return _Shown(content.scans(), content.reference.affine, content.classes)
    from anymri.inference.case_input import as_raw
    from anymri.prepare.preparation import Preparation, study_as_it_is

    raw = as_raw(content)
    study = raw.study if isinstance(raw, Preparation) else study_as_it_is(raw)
    if study is None:
        raise GeometryError(
            f"The scans of {raw.name} are on different grids.",
            "Bring them to one grid first: anymri.show(anymri.prepare_scans(CASE))",
        )
    classes = _labels(raw, study, label_scheme)
    if isinstance(raw, Preparation) and not raw.is_as_found:
        return _Shown(study.images, study.affine, classes)
    scans = {modality: from_lps(scan, study.reference) for modality, scan in study.images.items()}
    stored = None if classes is None else from_lps(classes, study.reference)
    return _Shown(scans, study.reference.affine, stored)


def _labels(raw: RawStudy | Preparation, study: Study, label_scheme: str | None) -> NDArray[np.uint8] | None:
    """Return the label map of a case on the grid of its study, (X, Y, Z)."""
    file = raw.raw.case.label
    if study.classes is not None or file is None or label_scheme is None:
        return study.classes
    from anymri.data.image import read_image
    from anymri.prepare.preparation import Preparation
    from anymri.regions import label_scheme as find_scheme
    from anymri.studio.preparing import on_study

    image = read_image(file)
    classes = find_scheme(label_scheme).to_classes(image.array, str(file))
    made = raw if isinstance(raw, Preparation) else Preparation(study, raw, {})
    return on_study(classes, image.affine, made, file)


def _viewer(modality: str, shown: _Shown) -> Any:
    """Return a widget of NiiVue with one scan and the label map in the colours of the figures."""
    from ipyniivue import NiiVue

    from anymri.report.figures.slices import intensity_window

    scan = shown.scans[modality]
    low, high = intensity_window(scan)
    base = {"name": f"{modality}.nii", "data": _nifti(scan.astype(np.float32), shown.affine)}
    viewer = NiiVue(height=_HEIGHT)
    viewer.load_volumes([{**base, "colormap": "gray", "cal_min": low, "cal_max": high, "colorbar_visible": False}])
    if shown.classes is not None:
        data = _nifti(shown.classes, shown.affine)
        viewer.add_volume({"name": "labels.nii", "data": data, "opacity": _OPACITY, "colorbar_visible": False})
        viewer.volumes[-1].set_colormap_label(_colours())
    viewer.set_radiological_convention(True)
    return viewer


def _colours() -> dict[str, list[Any]]:
    """Return the colours and names of the classes as a colour map of NiiVue; the background is transparent."""
    from anymri.export.viewers import LABELS

    red, green, blue = zip((0, 0, 0), *(label.colour for label in LABELS.values()), strict=True)
    names = ["", *(label.name for label in LABELS.values())]
    values = [0, *LABELS]
    alpha = [0] + [255] * len(LABELS)
    return {"R": [*red], "G": [*green], "B": [*blue], "A": alpha, "I": values, "labels": names}


def _nifti(array: NDArray[Any], affine: NDArray[np.float64]) -> bytes:
    """Return a volume as the bytes of a NIfTI file."""
    from nibabel import Nifti1Image

    content: bytes = Nifti1Image(array, affine).to_bytes()
    return content
