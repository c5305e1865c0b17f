"""Which scans exist, and which of them a step sees: the regimes of docs/training.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from anymri.data.case import Case
from anymri.modalities import MODALITIES, Subset, nonempty_subsets

_SUBSET_FLAGS = np.array(nonempty_subsets(4))
_NEVER_IN_REFERENCE = np.array(Subset.parse("T1+T2+FLAIR").flags)


def incomplete(case: Case, rates: Mapping[str, float], seed: int) -> Case:
    """The case without some of its scans, each taken away at the rate of its modality; never without all.

    What is taken follows from the seed and the case's name, whatever other cases there are. Where nothing would be
    left, the scan that came closest to staying does.
    """
    drawn = dict(zip(MODALITIES, _rng_of(case.name, seed, "missing").random(len(MODALITIES)), strict=True))
    kept = [m for m in case.scans if drawn[m] >= rates.get(m, 0)]
    kept = kept or [max(case.scans, key=lambda m: float(drawn[m]) / rates[m])]
    return replace(case, scans={m: case.scans[m] for m in kept})


def fixed_subset(case: Case, seed: int) -> Subset:
    """The subset that a case keeps for good: any of its scans, each non-empty subset equally likely."""
    flags = random_subset(np.array(case.subset.flags), _rng_of(case.name, seed, "subset"))
    return Subset.from_flags(flags.tolist())


def random_subset(
    present: np.ndarray, rng: np.random.Generator, how: str | Mapping[str, float] = "uniform"
) -> np.ndarray:
    """One of the non-empty subsets of `present`, (4,) bool; see `Stage.subsets` for how."""
    if how == "all":
        return present.copy()
    possible = _SUBSET_FLAGS[(present >= _SUBSET_FLAGS).all(1)]
    if how == "bernoulli" or not isinstance(how, str):
        left_out = np.array([0.5 if isinstance(how, str) else how.get(m, 0) for m in MODALITIES])
        kept: np.ndarray = present & (rng.random(len(present)) < 1 - left_out)
        if kept.any():
            return kept
        possible = possible[possible.sum(1) == 1]
    elif how != "uniform" and len(possible) > 1:
        if how != "by_size_or_all":
            possible = possible[:-1]  # the last is all of them
        if how == "by_size_reference":
            possible = possible[(possible != _NEVER_IN_REFERENCE).any(1)]
        sizes = possible.sum(1)
        possible = possible[sizes == rng.choice(np.unique(sizes))]
    chosen: np.ndarray = rng.choice(possible)
    return chosen


def _rng_of(name: str, seed: int, what: str) -> np.random.Generator:
    """Randomness of one case for one purpose."""
    digest = hashlib.sha256(f"{what} {name}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8])])
