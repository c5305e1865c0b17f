"""CSV manifests: one row per case; paths are relative to the file, an empty cell is a missing file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from anymri.data.case import Case
from anymri.data.layouts.found import Found, case_of_files
from anymri.data.layouts.listing import check_readable
from anymri.errors import CohortError, ImageError
from anymri.files import TextError, read_text
from anymri.modalities import MODALITIES, find_modality
from anymri.text import count

# Header of a column -> what the column contains; modalities by any alias.
_COLUMNS = {"case": "case", "patient": "patient", "label": "label", "mask": "brain_mask"}
_ENCODING = "Save it as CSV in UTF-8, with commas between the cells."


def find(path: Path) -> Found:
    """Return the cases in the order of the rows; raise `CohortError` with the line of what is wrong."""
    found: dict[str, Case] = {}
    try:
        with io.StringIO(read_text(path), newline="") as stream:
            rows = csv.reader(stream)
            columns = _columns(path, next(rows, []))
            for cells in rows:
                if not any(cells):
                    continue
                line = f"{path}, line {rows.line_num}"
                case = _case(path.parent, line, columns, cells)
                if case.name in found:
                    raise CohortError(f"{line}: the case {case.name} occurs twice.", "Give each row a different name.")
                found[case.name] = case
    except TextError as error:
        raise CohortError(f"{path} cannot be read: {error}.", _ENCODING) from error
    except csv.Error as error:
        raise CohortError(f"{path} is not a CSV file.", _ENCODING) from error
    return Found(list(found.values()))


def _columns(path: Path, header: list[str]) -> list[str]:
    """Return the content of each column: `case`, `patient`, a modality, `label` or `brain_mask`."""
    if not any(header):
        raise CohortError(
            f"{path} is empty." if not header else f"{path}, line 1: the names of the columns are empty.",
            "Write the names of the columns in the first line: case, t1, t1c, t2, flair, label.",
        )
    columns = []
    for cell in header:
        word = cell.strip().lower()
        column = _COLUMNS.get(word) or find_modality(word)
        if column is None:
            raise CohortError(
                f"{path}, line 1: unknown column {cell!r}.",
                f"Use commas between case, patient, label, mask, {', '.join(MODALITIES)}.",
            )
        columns.append(column)
    if len(set(columns)) < len(columns) or "case" not in columns:
        raise CohortError(
            f"{path}, line 1: the columns are {', '.join(header)}.",
            "Give one column named case, and each other column once.",
        )
    return columns


def _case(folder: Path, line: str, columns: list[str], cells: list[str]) -> Case:
    if len(cells) != len(columns):
        raise CohortError(
            f"{line}: {count(len(cells), 'cell')} for {count(len(columns), 'column')}.",
            "Quote cells that contain commas.",
        )
    row = {column: cell.strip() for column, cell in zip(columns, cells, strict=True) if cell.strip()}
    name, patient = row.pop("case", ""), row.pop("patient", "")
    files = {role: folder / file for role, file in row.items()}
    for role, file in files.items():
        if not file.exists() and not file.is_symlink():
            raise CohortError(f"{line}: {file} ({role}) does not exist.", "Paths are relative to the manifest.")
        try:
            check_readable(file, f" ({role})")
        except ImageError as error:
            raise CohortError(f"{line}: {error.what}", error.fix) from error
    try:
        return case_of_files(name, files, patient)
    except CohortError as error:
        raise CohortError(f"{line}: {error.what}", error.fix) from error
