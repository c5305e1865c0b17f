"""The result of a subset as files: what `anymri segment` writes, with the page of the case, and a zip of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.files import replacing
from anymri.inference.assembly import Predicted, Wanted, assemble
from anymri.inference.result import Result
from anymri.modalities import Subset
from anymri.progress import Progress
from anymri.provenance import without_paths
from anymri.studio.source import CaseSource

if TYPE_CHECKING:
    from anymri.prepare.preparation import Preparation
    from anymri.studio.desk import Desk


def export(
    desk: Desk, source: CaseSource, preparation: Preparation, weights: Path, subset: str, progress: Progress
) -> dict[str, Any]:
    """Write the result of a subset in the geometry of the reference scan, and return `zip` and `page`."""
    from anymri.report.case_montage import result_montage, write_preview
    from anymri.report.case_page import write_case_page
    from anymri.studio.segmenting import folder_of

    folder = folder_of(source, weights, subset) / "result"
    archive = folder.with_suffix(".zip")
    if not archive.exists():
        result = _result(desk, source, preparation, weights, subset, progress)
        progress("writing the result", 0, 1)
        with without_paths(source.is_private):
            result.save(folder)
        picture = result_montage(result)
        write_preview(folder, picture)
        write_case_page(folder, picture)
        with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as content:
            for file in sorted(folder.iterdir()):
                kind = zipfile.ZIP_STORED if file.suffix in (".gz", ".png") else zipfile.ZIP_DEFLATED
                content.write(file, f"{source.name}/{file.name}", kind)
    return {"zip": archive, "page": folder / "case.html"}


def _result(
    desk: Desk, source: CaseSource, preparation: Preparation, weights: Path, subset: str, progress: Progress
) -> Result:
    segmenter, chosen = desk.segmenter(weights), Subset.parse(subset)
    prepared, volume = desk.encoded(source, preparation, weights, progress)
    made = volume.decode(chosen, progress=progress)
    predicted = Predicted(chosen, made.probabilities.numpy(), made.kind, prepared.box)
    inputs = preparation.inputs | segmenter.inputs
    wanted = Wanted(None, probabilities=True, uncertainty=True)
    return assemble(preparation, predicted, wanted, segmenter.card, inputs, segmenter.computed_on)
