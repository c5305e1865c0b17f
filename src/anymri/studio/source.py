"""A case of the studio, as both processes know it: what it is read from, and where its files for the page are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Label map in the folder of the corrections of a case.
CORRECTED = "corrected.nii.gz"


@dataclass(frozen=True)
class CaseSource:
    """What a case is read from. Paths are never taken from a request.

    id          identifier of the case in addresses
    name        name of the case
    folder      folder for its files, in the temporary folder of the studio
    place       folder, file or zip archive with its scans; None where scans are given by name
    scans       modality -> file, DICOM series or archive
    label       expert label map
    brain_mask  mask of the brain
    scheme      label scheme of the expert label map; None for that of the weights
    saved       folder of a result, whose label map is shown
    corrections folder of the corrections of the case
    is_private  whether the place is a copy in the temporary folder, which provenance does not name
    """

    id: str
    name: str
    folder: Path
    place: Path | None = None
    scans: Mapping[str, Path] = field(default_factory=dict)
    label: Path | None = None
    brain_mask: Path | None = None
    scheme: str | None = None
    saved: Path | None = None
    corrections: Path | None = None
    is_private: bool = False

    @property
    def maps(self) -> Path:
        """Folder for the volumes and label maps of the page, which a new preparation makes again."""
        return self.folder / "maps"

    @property
    def plain(self) -> str:
        """Beginning of the paths of copies, which mean nothing to the user, with its last slash; else empty."""
        return f"{self.place}/" if self.is_private and self.place is not None else ""
