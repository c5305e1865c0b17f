"""Which volumes are scans: localisers, maps that were computed, projections and other images are left out.

The rules read ImageType (0008,0008) and the size, not the name of the series; names are left to
`anymri.prepare.sequences`. A derived image stays if none of the words below is in its ImageType, as scans that were
denoised, corrected or interpolated are derived too.
"""

from __future__ import annotations

from collections.abc import Sequence

from anymri.prepare.dicom.frames import Frame, RefusedError
from anymri.prepare.dicom.headers import number


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split(","))


# Values of ImageType that no scan has, with what they say.
KINDS = {
    "a localiser": _set("LOCALIZER,LOCALISER,SCOUT"),
    "a diffusion map": _set(
        "ADC,EADC,FA,TRACE,TRACEW,TENSOR,TENSOR_B0,DIFFUSION_ADC,EXP,ADC_UNSPECIFIED,TRACE_UNSPECIFIED"
    ),
    "a perfusion map": _set("PERFUSION,CBV,RCBV,RELCBV,CBF,RCBF,RELCBF,MTT,RELMTT,TTP,TMAX,PBP,GBP,KTRANS,RELCCBV,K2"),
    "a projection": _set("MIP,MINIP,MNIP,PROJECTION IMAGE,MAX_IP,MIN_IP,CSA MIP,MAXIMUM,MIP_THICK"),
    "a subtraction": _set("SUBTRACTION,SUB,SUBTRACT"),
    "a phase image": _set("P,PHASE,PHASE MAP,PHASE_MAP,I,IMAGINARY,VELOCITY,VELOCITY MAP,VELOCITY_MAP"),
    "a parameter map": _set(
        "B0,B0 MAP,B1 MAP,FIELD_MAP,FIELD MAP,T1 MAP,T1_MAP,T2 MAP,T2_MAP,T2_STAR MAP,T2STAR MAP,R1 MAP,R2 MAP,"
        "R2_STAR MAP,PROTON_DENSITY MAP,R2_MAP"
    ),
    "a screen shot": _set("SCREEN SAVE,SCREENSHOT,CAPTURE"),
}
_REFORMATTED = _set("MPR,CSA MPR,CSAMPR,REFORMATTED,MPR_THICK,CURVED_MPR")
MOSAIC = "MOSAIC"
FEWEST_SLICES = 5
# Series of diffusion, perfusion and function hold more; those with several echoes or phases hold fewer.
MOST_VOLUMES = 8


def image_type(frame: Frame) -> list[str]:
    """Return the values of ImageType in capitals."""
    return [part.strip().upper() for part in frame.text("ImageType").split("\\")]


def check_kind(frames: Sequence[Frame]) -> None:
    """Raise `RefusedError` with the reason if the slices of a volume are not those of a scan."""
    words = set(image_type(frames[0]))
    if MOSAIC in words:
        raise RefusedError(
            "it is a mosaic, with many slices in one image; export it as an enhanced or single-slice series"
        )
    for kind, known in KINDS.items():
        if words & known:
            raise RefusedError(f"it is {kind} (ImageType {' '.join(sorted(words & known))})")
    dataset = frames[0].dataset
    photometric, samples = frames[0].text("PhotometricInterpretation"), number(dataset, "SamplesPerPixel")
    if samples not in (None, 1.0) or photometric not in ("", "MONOCHROME2"):
        raise RefusedError(f"its images are in colour or inverted ({photometric or 'several values per voxel'})")


def check_slices(frames: Sequence[Frame], fewest: int) -> None:
    """Raise `RefusedError` if a volume has so few slices that it is a localiser or a part of a scan."""
    if len(frames) < fewest:
        count = "one slice" if len(frames) == 1 else f"{len(frames)} slices"
        raise RefusedError(f"it has {count}, as a localiser has; a scan of the brain has {fewest} or more")


def check_volumes(volumes: Sequence[Sequence[Frame]]) -> None:
    """Raise `RefusedError` if a series has three or more orientations, as localisers have, or very many volumes."""
    directions: list[Frame] = []
    for volume in volumes:
        if all(abs(volume[0].normal @ other.normal) < 0.9 for other in directions):
            directions.append(volume[0])
    if len(directions) > 2:
        raise RefusedError("it is a localiser: its slices have three orientations")
    if len(volumes) > MOST_VOLUMES:
        raise RefusedError(f"it holds {len(volumes)} volumes, as diffusion, perfusion and functional series do")


def is_reformatted(frames: Sequence[Frame]) -> bool:
    """Return whether a volume was computed from another by reformatting (MPR)."""
    return bool(set(image_type(frames[0])) & _REFORMATTED)


def source_key(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Return what a scan and its reformatted images have in common."""
    first = frames[0]
    return tuple(
        first.text(keyword)
        for keyword in ("FrameOfReferenceUID", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle")
    )
