"""Missing modalities: which scans exist, and which of them a step uses. The regimes of docs/training.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case
from anymri.modalities import MODALITIES, Subset, nonempty_subsets

_SUBSET_FLAGS = np.array(nonempty_subsets(4))
# Of `subsets: one_and_several`: shares of T1, T1c, T2 and FLAIR as the only one; in the others, shares of all
# modalities and of the pair of short protocols, where a network tends to trust T1c although FLAIR shows the oedema.
_SHARES = np.array([0.25, 0.22, 0.32, 0.21])
_SHARE_OF_ALL, _SHARE_OF_PAIR = 0.35, 0.25
_PAIR = np.array(Subset.parse("T1c+FLAIR").flags)
_NEVER_IN_REFERENCE = np.array(Subset.parse("T1+T2+FLAIR").flags)


def incomplete(case: Case, rates: Mapping[str, float], seed: int) -> Case:
    """Return the case without some of its scans, each removed at the rate of its modality, but never all of them.

    The choice follows from the seed and the case's name alone, so other cases do not change it. Where all scans would
    be removed, the one with the highest draw in proportion to its rate is kept.
    """
    drawn = dict(zip(MODALITIES, _rng_of(case.name, seed, "missing").random(len(MODALITIES)), strict=True))
    kept = [m for m in case.scans if drawn[m] >= rates.get(m, 0)]
    kept = kept or [max(case.scans, key=lambda m: float(drawn[m]) / rates[m])]
    return replace(case, scans={m: case.scans[m] for m in kept})


def fixed_subset(case: Case, seed: int) -> Subset:
    """Return the subset that a case keeps for good: each non-empty subset of its scans is equally likely."""
    flags = random_subset(np.array(case.subset.flags), _rng_of(case.name, seed, "subset"))
    return Subset.from_flags(flags.tolist())


def random_subset(
    present: NDArray[np.bool_], rng: np.random.Generator, how: str | Mapping[str, float] = "uniform"
) -> NDArray[np.bool_]:
    """Return a non-empty subset of the modalities that exist, (4,) bool.

    present  (4,) bool: modalities that exist
    how      rule by which it is drawn, see `Stage.subsets`
    """
    if how == "all":
        return present.copy()
    possible = _SUBSET_FLAGS[(present >= _SUBSET_FLAGS).all(1)]
    if how == "bernoulli" or not isinstance(how, str):
        rates = np.array([0.5 if isinstance(how, str) else how.get(m, 0) for m in MODALITIES])
        kept: NDArray[np.bool_] = present & (rng.random(len(present)) < 1 - rates)
        if kept.any():
            return kept
        possible = possible[possible.sum(1) == 1]
    elif how != "uniform" and len(possible) > 1:
        if how != "by_size_or_all":
            possible = possible[:-1]  # the last has all modalities
        if how == "by_size_reference":
            possible = possible[(possible != _NEVER_IN_REFERENCE).any(1)]
        sizes = possible.sum(1)
        possible = possible[sizes == rng.choice(np.unique(sizes))]
    chosen: NDArray[np.bool_] = rng.choice(possible)
    return chosen


def one_modality(present: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return one of the modalities that exist, (4,) bool, the harder ones more often."""
    shares = _SHARES * present
    single: NDArray[np.bool_] = np.arange(len(present)) == rng.choice(len(present), p=shares / shares.sum())
    return single


def several_modalities(present: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return all modalities that exist, (4,) bool, or, more often, a smaller subset of two or more of them."""
    possible = _SUBSET_FLAGS[(present >= _SUBSET_FLAGS).all(1) & (_SUBSET_FLAGS.sum(1) > 1)][:-1]  # the last has all
    drawn = rng.random()
    if not len(possible) or drawn < _SHARE_OF_ALL:
        return present.copy()
    if drawn < _SHARE_OF_ALL + _SHARE_OF_PAIR and (present >= _PAIR).all():
        return _PAIR.copy()
    chosen: NDArray[np.bool_] = rng.choice(possible)
    return chosen


def _rng_of(name: str, seed: int, what: str) -> np.random.Generator:
    """Return the random generator of one case for one purpose."""
    digest = hashlib.sha256(f"{what} {name}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8])])
