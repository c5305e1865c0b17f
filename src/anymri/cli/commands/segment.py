"""`anymri segment`: label maps of one case, or of a cohort."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from anymri.cli.added_files import check_extras, write_added_files
from anymri.cli.checks import check_computation, check_several, check_space, check_weights
from anymri.cli.options import Device, Lane, Output, complete_weights
from anymri.cli.results.cases import CaseSegmentation, CohortSegmentation
from anymri.cli.used_weights import weights_for
from anymri.errors import ConfigurationError
from anymri.files import check_writable
from anymri.modalities import Subset
from anymri.prepare.brain_methods import check_brain_method

T1 = Annotated[Path | None, typer.Option(help="T1 scan: an image file, or a DICOM folder, file or zip archive.")]
T1c = Annotated[Path | None, typer.Option(help="T1 scan with contrast agent.")]
T2 = Annotated[Path | None, typer.Option(help="T2 scan.")]
Flair = Annotated[Path | None, typer.Option(help="FLAIR scan.")]
BrainMask = Annotated[Path | None, typer.Option(help="Mask of the brain, on the grid of one of the scans.")]
DicomStudy = Annotated[int | None, typer.Option(help="Number of the DICOM study to use, if there are several.")]
Brain = Annotated[
    str,
    typer.Option(
        help="Method that finds the brain in scans with skull: auto, deepbet, hd-bet, fallback, none (keep all)."
    ),
]
Registration = Annotated[
    bool, typer.Option("--registration/--no-registration", help="Registration of scans on different grids.")
]
Space = Annotated[
    str | None,
    typer.Option(help="Grid of the result: t1, t1c, t2, flair or prepared; default: first of T1c, FLAIR, T2, T1."),
]


def segment(
    case: Annotated[
        Path | None,
        typer.Argument(help="Folder, file or zip archive of images or DICOM; or a cohort; or name scans by options."),
    ] = None,
    *,
    output: Output,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            help="Run folder, .safetensors file or installed name; several for an ensemble; default: best installed.",
            autocompletion=complete_weights,
        ),
    ] = None,
    t1: T1 = None,
    t1c: T1c = None,
    t2: T2 = None,
    flair: Flair = None,
    brain_mask: BrainMask = None,
    subset: Annotated[
        str | None, typer.Option(help="Modalities to use, e.g. T1c+FLAIR; default: all that exist.")
    ] = None,
    space: Space = None,
    brain: Brain = "auto",
    registration: Registration = True,
    n4: Annotated[bool, typer.Option("--n4", help="Correction of the bias fields.")] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Maps of the probability of WT, TC, ET.")
    ] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Map of the entropy.")] = False,
    smallest: Annotated[
        float, typer.Option(min=0, help="Smallest tumour in mL: smaller ones are removed, the largest stays.")
    ] = 0.0,
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="Missing scans, reconstructed, if the system can.")
    ] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Volumes and intensities, as TotalSegmentator.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Picture of the regions on the scans.")] = False,
    page: Annotated[bool, typer.Option("--page", help="HTML page of the case.")] = False,
    viewers: Annotated[bool, typer.Option("--viewers", help="Names of the labels for 3D Slicer and ITK-SNAP.")] = False,
    dicom: Annotated[bool, typer.Option("--dicom", help="DICOM SEG and report, for DICOM scans.")] = False,
    dicom_study: DicomStudy = None,
    device: Device = "auto",
    lane: Lane = "torch",
    combine: Annotated[str, typer.Option(help="Combination of several weights: mean, staple.")] = "mean",
    tta: Annotated[
        str, typer.Option(metavar="AXES", help="Mean over mirrored scans too: x, xy, ...; each axis doubles the time.")
    ] = "",
    shard: Annotated[str | None, typer.Option(help="Share of a cohort, e.g. 2/8: the second of eight.")] = None,
    engine: Annotated[str, typer.Option(help="What works on a cohort: local, ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster; default: one on this machine.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that prepare cases, or Ray workers.")] = None,
) -> CaseSegmentation | CohortSegmentation:
    """Segment one case or a cohort from the modalities that exist.

    Raw scans are prepared as far as needed: brain mask, registration, resampling. The label map has the geometry of
    the first scan of T1c, FLAIR, T2 and T1 that exists, or of --space.
    """
    scans = {"t1": t1, "t1c": t1c, "t2": t2, "flair": flair}
    options: dict[str, Any] = {
        "subset": subset,
        "space": space,
        "brain": brain,
        "registration": registration,
        "n4": n4,
        "probabilities": probabilities,
        "uncertainty": uncertainty,
        "smallest_ml": smallest,
        "reconstruct": reconstruct,
    }
    added: dict[str, Any] = {"preview": preview, "page": page, "viewers": viewers, "dicom": dicom}
    check_computation(device, lane)
    check_several(combine, tta, engine, lane)
    check_brain_method(brain)
    check_space(space)
    wanted = None if subset is None else Subset.parse(subset)
    check_extras(**added)
    check_weights(weights or [])
    check_writable(output)
    from anymri.data.image import image_stem

    if image_stem(output) is not None:
        raise ConfigurationError(
            f"-o {output} has the name of an image, and the result is a folder.",
            f"Name a folder: the label map will be {output.parent / 'OUT' / 'segmentation.nii.gz'}",
        )
    from anymri.cli.several import find_several

    sources = [] if case is None or any(scans.values()) else find_several(case)
    if sources or (case is not None and shard is not None):
        assert case is not None
        _refuse(brain_mask=brain_mask, dicom_study=dicom_study)
        from anymri.cli.cohort import segment_many

        work: dict[str, Any] = {"options": options, "saving": {"statistics": statistics}, "further": added}
        if any(added.values()):
            work["export"] = partial(write_added_files, **added)
        settings: dict[str, Any] = {"device": device, "lane": lane, "combine": combine, "flips": tta, "engine": engine}
        settings |= {"address": address, "workers": workers}
        used = weights_for(weights, wanted)
        return segment_many(sources or case, output, used, shard=shard, work=work, **settings)
    _refuse(shard=shard, address=address, workers=workers)
    from anymri.cli.case import segment_one

    given = {name: path for name, path in scans.items() if path is not None}
    reading = {"brain_mask": brain_mask, "dicom_study": dicom_study}
    computing = {"device": device, "lane": lane, "combine": combine, "flips": tta}
    return segment_one(case, given, output, weights, reading, computing, options, statistics, added)


def _refuse(**given: Any) -> None:
    """Raise `ConfigurationError` for options that do not fit to one case, or to a cohort."""
    for name, value in given.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            kind = "a single case" if name in ("brain_mask", "dicom_study") else "a cohort"
            raise ConfigurationError(f"{option} is for {kind}.", "Leave it out.")
