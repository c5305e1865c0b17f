"""The four MRI modalities, their aliases, and their 15 subsets.

Inside anymri a modality is one of the four strings of `MODALITIES`, and arrays hold modalities in that order. Aliases
are translated where names enter, by `parse_modality`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from anymri.errors import ModalityError, did_you_mean

if TYPE_CHECKING:
    import torch

MODALITIES = ("T1", "T1c", "T2", "FLAIR")

_ALIASES_OF = {
    "T1": ("t1", "t1n", "t1w", "t1pre", "t1native"),
    "T1c": ("t1c", "t1ce", "t1gd", "t1post", "t1wce", "t1cw", "t1km", "ct1", "ct1w"),
    "T2": ("t2", "t2w"),
    "FLAIR": ("flair", "t2f", "fla", "t2flair", "flairw"),
}
# Alias, in lower case -> modality.
ALIASES = {alias: modality for modality, aliases in _ALIASES_OF.items() for alias in aliases}

# Preference for the scan whose geometry a segmentation is written in.
REFERENCE_ORDER = ("T1c", "FLAIR", "T2", "T1")


def find_modality(word: str) -> str | None:
    """Return the modality with the alias `word`, in upper or lower case, or None."""
    return ALIASES.get(word.lower())


def parse_modality(word: str) -> str:
    """Return the modality with the alias `word`; raise `ModalityError` with the closest alias if there is none."""
    modality = find_modality(word.strip())
    if modality is None:
        hint = did_you_mean(word.strip().lower(), ALIASES)
        raise ModalityError(
            f"{word!r} is not a modality.",
            f"{hint}Use one of {', '.join(MODALITIES)} (or t1n, t1ce, t1gd, t2w, t2f, ...).",
        )
    return modality


@dataclass(frozen=True)
class Subset:
    """A non-empty set of modalities, printed as `T1c+FLAIR` in the order of `MODALITIES`."""

    modalities: tuple[str, ...]

    def __post_init__(self) -> None:
        ordered = tuple(m for m in MODALITIES if m in self.modalities)
        if not ordered:
            raise ModalityError("The subset has no modality.", f"Name at least one of {', '.join(MODALITIES)}.")
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown:
            raise ModalityError(f"{', '.join(sorted(unknown))}: not a modality.", f"Use {', '.join(MODALITIES)}.")
        object.__setattr__(self, "modalities", ordered)

    @classmethod
    def parse(cls, text: str) -> Subset:
        """Return the subset named by a text such as `T1c+FLAIR`, with any alias, separated by plus, comma or space."""
        words = text.replace("+", " ").replace(",", " ").split()
        return cls(tuple(parse_modality(word) for word in words))

    @classmethod
    def of(cls, modalities: Iterable[str]) -> Subset:
        """Return the subset of these modalities, given in any order."""
        return cls(tuple(modalities))

    @classmethod
    def from_flags(cls, flags: Iterable[bool]) -> Subset:
        """Return the subset of the modalities whose flag is true, one flag per modality of `MODALITIES`."""
        return cls(tuple(m for m, flag in zip(MODALITIES, flags, strict=True) if flag))

    @property
    def flags(self) -> tuple[bool, ...]:
        """One flag per modality of `MODALITIES`: true if it is in the subset."""
        return tuple(m in self.modalities for m in MODALITIES)

    def as_tensor(self, batch_size: int = 1) -> torch.Tensor:
        """Return the flags as a tensor (batch_size, 4) bool on the CPU, the same for every sample."""
        import torch

        return torch.tensor([self.flags], device="cpu").repeat(batch_size, 1)

    def __str__(self) -> str:
        return "+".join(self.modalities)

    def __iter__(self) -> Iterator[str]:
        return iter(self.modalities)

    def __len__(self) -> int:
        return len(self.modalities)

    def __contains__(self, modality: object) -> bool:
        return modality in self.modalities

    def __le__(self, other: Subset) -> bool:
        return set(self.modalities) <= set(other.modalities)


def as_subset(subset: Subset | str) -> Subset:
    """Return the subset with a name such as "T1c+FLAIR"; return a `Subset` unchanged."""
    return Subset.parse(subset) if isinstance(subset, str) else subset


# All subsets, in the order of the rows of the papers' tables (protocol sheet, section 6).
SUBSETS = tuple(
    map(
        Subset.parse,
        (
            "T2",
            "T1c",
            "T1",
            "FLAIR",
            "T1c+T2",
            "T1+T1c",
            "T1+FLAIR",
            "T1+T2",
            "T2+FLAIR",
            "T1c+FLAIR",
            "T1+T1c+FLAIR",
            "T1+T2+FLAIR",
            "T1c+T2+FLAIR",
            "T1+T1c+T2",
            "T1+T1c+T2+FLAIR",
        ),
    )
)
ALL = SUBSETS[-1]


def nonempty_subsets(count: int) -> list[tuple[bool, ...]]:
    """Return the 2**count - 1 non-empty subsets of `count` items as flags, ordered by size, then lexicographically."""
    chosen: list[Sequence[int]] = [c for size in range(1, count + 1) for c in combinations(range(count), size)]
    return [tuple(i in c for i in range(count)) for c in chosen]
