"""Contrasts: brightness of tissues on each modality, drawn within what physics allows.

The unit is white matter on T1 and T1c, fluid on T2, grey matter on FLAIR. Always true, whatever is drawn:

T1     fluid < grey < white; oedema, necrosis and non-enhancing tumour darker than white matter; blood may be bright
T1c    as T1, and enhancing tumour, veins and plexus brighter than white matter; necrosis darker than oedema
T2     white < grey < fluid; oedema brighter than white matter; cysts as fluid; flowing blood dark
FLAIR  fluid < white < grey; oedema brighter than grey matter; cysts and necrosis between fluid and oedema
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from numpy.random import Generator

from anymri.modalities import MODALITIES
from anymri.synthesis.realistic.space import log_uniform


@dataclass(frozen=True)
class Contrast:
    """Brightness of tissues on one modality, in the unit of the modality.

    opacity  share by which oedema replaces the tissue under it, 0.55 to 1
    iron     brightness of the globus pallidus relative to other tissue
    """

    csf: float
    grey: float
    white: float
    oedema: float
    necrosis: float
    enhancing: float
    blood: float
    veins: float
    arteries: float
    choroid: float
    dura: float
    fat: float
    white_lesion: float
    opacity: float
    iron: float = 1.0


def draw_contrasts(rng: Generator, kind: str, easy: bool = False) -> dict[str, Contrast]:
    """Return one contrast per modality, in the order of `MODALITIES`.

    kind  kind of the tumour, see `lesions.KINDS`
    easy  only well visible oedema and enhancement
    """
    t1 = _draw_t1(rng, kind, easy)
    contrasts = {
        "T1": t1,
        "T1c": _with_agent(rng, t1, easy),
        "T2": _draw_t2(rng, kind),
        "FLAIR": _draw_flair(rng, kind, easy),
    }
    return {modality: contrasts[modality] for modality in MODALITIES}


def _draw_t1(rng: Generator, kind: str, easy: bool) -> Contrast:
    csf = rng.uniform(0.10, 0.45)
    grey = rng.uniform(max(0.55, csf + 0.15), 0.9)
    span = 1 - csf
    oedema = rng.uniform(0.2, 0.55) if easy else rng.uniform(0.02, 0.5)  # drop from white matter to fluid
    necrosis = {"cystic": (0.75, 1.0), "non_enhancing": (0.1, 0.75)}.get(kind, (0.1, 0.95))
    return Contrast(
        csf=csf,
        grey=grey,
        white=1.0,
        oedema=1 - oedema * span,
        necrosis=1 - max(log_uniform(rng, *necrosis), oedema + 0.03) * span,
        enhancing=1 - rng.uniform(0.02, 0.55) * span,
        blood=rng.uniform(0.9, 1.7),
        veins=rng.uniform(0.3, 0.9),
        arteries=rng.uniform(0.2, 0.9),
        choroid=rng.uniform(0.5, 0.9),
        dura=rng.uniform(0.4, 0.9),
        fat=rng.uniform(1.0, 1.8),
        white_lesion=1 - rng.uniform(0.05, 0.35) * span,
        opacity=_opacity(rng, easy),
    )


def _with_agent(rng: Generator, t1: Contrast, easy: bool) -> Contrast:
    """Return T1c: T1 of another sequence (8 % jitter), with contrast agent."""
    csf = t1.csf * rng.normal(1, 0.08)
    oedema = min(t1.oedema * rng.normal(1, 0.04), 0.97)
    return replace(
        t1,
        csf=csf,
        grey=min(max(t1.grey * rng.normal(1, 0.06), csf + 0.1), 0.96),
        oedema=oedema,
        necrosis=min(t1.necrosis * rng.normal(1, 0.06), oedema - 0.03),
        enhancing=rng.uniform(1.4, 2.3) if easy else rng.uniform(1.15, 2.3),
        blood=t1.blood * rng.normal(1, 0.05),
        veins=rng.uniform(1.2, 3.0),
        arteries=rng.uniform(1.1, 2.2),
        choroid=rng.uniform(1.1, 2.0),
        dura=rng.uniform(0.6, 1.9),
    )


def _draw_t2(rng: Generator, kind: str) -> Contrast:
    grey = rng.uniform(0.2, 0.58)
    white = grey * rng.uniform(0.5, 0.9)
    span = 1 - white
    if kind == "cystic":
        necrosis = rng.uniform(0.85, 1.1)
    elif kind != "non_enhancing" and rng.random() < 0.3:
        necrosis = rng.uniform(-0.1, 0.5)  # old blood, debris
    else:
        necrosis = rng.uniform(0.4, 0.95)
    return Contrast(
        csf=1.0,
        grey=grey,
        white=white,
        oedema=white + log_uniform(rng, 0.12, 0.85) * span,
        necrosis=white + necrosis * span,
        enhancing=white + rng.uniform(-0.1, 0.65) * span,
        blood=rng.uniform(0.0, 0.6),
        veins=rng.uniform(0.05, 0.6),
        arteries=rng.uniform(0.0, 0.3),
        choroid=rng.uniform(0.5, 0.95),
        dura=rng.uniform(0.1, 0.4),
        fat=rng.uniform(0.3, 0.9),
        white_lesion=white + rng.uniform(0.15, 0.6) * span,
        opacity=_opacity(rng, easy=False),
        iron=rng.uniform(0.6, 0.95),
    )


def _draw_flair(rng: Generator, kind: str, easy: bool) -> Contrast:
    csf = rng.uniform(0.08, 0.5)
    excess = rng.uniform(0.5, 1.3) if easy else log_uniform(rng, 0.2, 1.3)
    if kind == "cystic" or (kind != "non_enhancing" and rng.random() < 0.35):
        necrosis = csf + rng.uniform(0, 0.8) * (1 - csf)  # suppressed as fluid
    else:
        necrosis = 1 + excess * rng.uniform(0.1, 1.0)
    return Contrast(
        csf=csf,
        grey=1.0,
        white=rng.uniform(max(0.7, csf + 0.1), 0.97),
        oedema=1 + excess,
        necrosis=necrosis,
        enhancing=1 + excess * rng.uniform(-0.1, 1.05),
        blood=rng.uniform(0.3, 1.5),
        veins=rng.uniform(0.2, 0.8),
        arteries=rng.uniform(0.1, 0.6),
        choroid=rng.uniform(0.6, 1.3),
        dura=rng.uniform(0.4, 1.1),
        fat=rng.uniform(0.5, 1.5),
        white_lesion=1 + excess * rng.uniform(0.4, 1.0),
        opacity=_opacity(rng, easy),
        iron=rng.uniform(0.85, 1.0),
    )


def _opacity(rng: Generator, easy: bool) -> float:
    return rng.uniform(0.75 if easy else 0.55, 1.0)
