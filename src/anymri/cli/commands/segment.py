"""`anymri segment`: the label map of one case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Device, Lane, Output

T1 = Annotated[Path | None, typer.Option(help="T1 scan: NIfTI, NRRD or MHA.")]
T1c = Annotated[Path | None, typer.Option(help="T1 scan with contrast agent.")]
T2 = Annotated[Path | None, typer.Option(help="T2 scan.")]
Flair = Annotated[Path | None, typer.Option(help="FLAIR scan.")]


def segment(
    case: Annotated[Path | None, typer.Argument(help="Case folder; or name scans by the options.")] = None,
    *,
    output: Output,
    weights: Annotated[Path, typer.Option(help="Run folder or .safetensors file.")],
    t1: T1 = None,
    t1c: T1c = None,
    t2: T2 = None,
    flair: Flair = None,
    brain_mask: Annotated[
        Path | None, typer.Option(help="Mask of the brain, for scans whose background is not constant.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="Modalities to use, e.g. T1c+FLAIR; default: all that exist.")
    ] = None,
    device: Device = "auto",
    lane: Lane = "torch",
) -> None:
    """Segment one case from the modalities that exist.

    The label map has the shape, affine and orientation of the first scan of T1c, FLAIR, T2 and T1 that exists.
    """
    from anymri.inference import segment as segment_case

    result = segment_case(
        case,
        t1=t1,
        t1c=t1c,
        t2=t2,
        flair=flair,
        brain_mask=brain_mask,
        weights=weights,
        subset=subset,
        device=device,
        lane=lane,
        output=output,
    )
    volumes = ", ".join(f"{name} {millilitres:.1f} mL" for name, millilitres in result.volumes_ml.items())
    console.print(f"From {result.subset}: {volumes}")
    console.print(f"{output / 'segmentation.nii.gz'}", soft_wrap=True)
