"""Output folder of a cohort: one folder per case, with a record that shows whether its result is still valid.

CASE/case.json     written last: hashes of settings and inputs, the files of the result, measurements and notes
CASE/failure.json  why the case has no result
failures.json      all failures; made from the folders of the cases

Several commands, on several hosts, may fill one folder: each case is locked while it is in work.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from anymri.data.sources import Fingerprint, Source, content_fingerprint, quick_fingerprint
from anymri.data.workers import Failure
from anymri.errors import CohortError, OutputError
from anymri.files import TEMPORARY, TextError, digest, locked, output_folder, read_text, sha256, write_json

CASE, FAILURE, PROVENANCE = "case.json", "failure.json", "provenance.json"
FAILURES = "failures.json"
SUMMARIES = ("summary.csv", "summary.parquet", "summary.html")
# Names of files with so few characters are those of no patient, and are words and numbers of messages.
_SHORT = 3
# Longest wait for another command that writes a summary of the same folder.
_SECONDS = 60

Claim = Literal["claimed", "kept", "elsewhere"]


class CohortFolder:
    """Output folder of a cohort.

    path  the folder
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Create the folder if needed; raise `OutputError` if it cannot be written.

        settings  all that a result depends on beside its inputs, ready for JSON: hashes of weights, options
        """
        self.path = output_folder(path)
        self._settings = digest(settings)
        self._blocked: dict[str, Failure] = {}

    def folder_of(self, source: Source) -> Path:
        """Return the folder of a case."""
        return self.path / source.name

    def check(self, sources: Sequence[Source]) -> None:
        """Raise `CohortError` for a case named as a file of the cohort, `OutputError` for results among the scans."""
        for source in sources:
            if source.name.casefold() in (FAILURES, *SUMMARIES):
                raise CohortError(f"A case cannot have the name {source.name}.", "Rename its folder.")
            content = source.content
            scans = [content / "scan"] if isinstance(content, Path) else content.scans.values()
            if self.folder_of(source).resolve() in (path.resolve().parent for path in scans):
                raise OutputError(
                    f"The results of {source.name} would be written among its scans in {self.folder_of(source)}.",
                    "Choose another folder for the output, on the command line with -o.",
                )

    def is_done(self, source: Source) -> bool:
        """Return whether the folder holds the whole result of the source as it is now, with the same settings."""
        folder = self.folder_of(source)
        record = read_record(folder / CASE)
        try:
            return (
                record is not None
                and record["settings"] == self._settings
                and record["provenance"] == sha256(folder / PROVENANCE)
                and all((folder / name).stat().st_size == size for name, size in record["outputs"].items())
                # The contents are read only where size or time differ.
                and (record["quick"] == quick_fingerprint(source) or record["content"] == content_fingerprint(source))
            )
        except (KeyError, TypeError, AttributeError, ValueError, OSError):
            return False

    def was_interrupted(self, source: Source) -> bool:
        """Return whether the case is in work now, or was when a command was killed."""
        return (self.folder_of(source) / f"{TEMPORARY}lock").exists()

    def claim(self, source: Source, held: ExitStack) -> Claim:
        """Lock the folder of a case until `held` is closed, and return whether its work can begin.

        Returns `elsewhere` if another command has locked it, `kept` if it was finished meanwhile. Raises `OutputError`
        if the folder cannot be written.
        """
        try:
            held.enter_context(locked(self.folder_of(source)))
        except OutputError as error:
            if is_held_elsewhere(error):
                return "elsewhere"
            raise
        return "kept" if self.is_done(source) else "claimed"

    def complete(
        self, source: Source, prints: Fingerprint, before: Mapping[str, int], facts: Mapping[str, Any]
    ) -> None:
        """Record that the result of a case is whole.

        prints  state of the inputs when they were read
        before  files of the folder and their times before the result was saved, see `files_of`
        facts   values for the summary
        """
        folder = self.folder_of(source)
        outputs = [name for name, changed in files_of(folder).items() if before.get(name) != changed]
        record = {
            "case": source.name,
            "files": named_files(source, facts.get("notes", ())),
            "settings": self._settings,
            **prints._asdict(),
            "provenance": sha256(folder / PROVENANCE),
            "outputs": {name: (folder / name).stat().st_size for name in outputs},
            **facts,
        }
        write_json(folder / CASE, record)
        if (folder / FAILURE).exists():
            (folder / FAILURE).unlink()
            self.write_failures()

    def fail(self, source: Source, failure: Failure) -> None:
        """Record that a case has no result; an earlier result of other inputs or settings is removed."""
        clear(self.folder_of(source))
        record: dict[str, Any] = {"case": source.name, "what": failure.what, "fix": failure.fix}
        with suppress(OSError):
            record["files"] = named_files(source, (failure.what, failure.fix))
        write_json(self.folder_of(source) / FAILURE, record)
        self.write_failures()

    def block(self, source: Source, failure: Failure) -> None:
        """Record a failure of a case whose folder cannot be written."""
        self._blocked[source.name] = failure
        self.write_failures()

    def failures(self) -> dict[str, Failure]:
        """Return name -> failure of the cases without a result, sorted by name."""
        found = dict(self._blocked)
        for file in self.path.glob(f"*/{FAILURE}"):
            record = read_record(file)
            if record is not None:
                found[file.parent.name] = Failure(str(record.get("what", "")), str(record.get("fix", "")))
        return dict(sorted(found.items()))

    def write_failures(self) -> None:
        """Write `failures.json` from the folders of the cases."""
        with self.exclusive():
            found = self.failures()
            if found or (self.path / FAILURES).exists():
                write_json(self.path / FAILURES, {name: {"what": f.what, "fix": f.fix} for name, f in found.items()})

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock the folder of the cohort; wait for other commands that write a summary."""
        end = time.monotonic() + _SECONDS
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(locked(self.path))
                    break
                except OutputError as error:
                    if not is_held_elsewhere(error) or time.monotonic() > end:
                        raise
                    time.sleep(0.05)
            yield


def read_record(file: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if it does not exist or is damaged."""
    try:
        record = json.loads(read_text(file))
    except (TextError, ValueError, OSError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def named_files(source: Source, texts: Sequence[str]) -> dict[str, str]:
    """Return role -> file of what is named in messages, so that pages can show the role instead.

    Of a raw study, these are its folder and the files, or entries of the archive, that the texts name; of a case, all
    files.
    """
    content = source.content
    if isinstance(content, Path):
        paths = [Path(entry) for entry in _entries(content)] or list(source.files().values())
        telling = [path for path in paths if len(path.name) > _SHORT]
        named = sorted({str(path) for path in telling if any(path.name in text for text in texts)})
        return {"study": str(content)} | {f"unnamed {number}": path for number, path in enumerate(named, 1)}
    return {role: str(path) for role, path in source.files().items()}


def _entries(archive: Path) -> list[str]:
    """Return the names of the files in a zip archive; none if it is not one that can be read."""
    try:
        with zipfile.ZipFile(archive) as content:
            return content.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def files_of(folder: Path) -> dict[str, int]:
    """Return path within a folder -> time of change in nanoseconds, of the files of a result."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(TEMPORARY))
    named = {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}
    return {name: changed for name, changed in named.items() if name not in (CASE, FAILURE)}


def clear(folder: Path) -> None:
    """Remove the result that `case.json` lists, so that no earlier one remains beside a new one or a failure."""
    record = read_record(folder / CASE)
    (folder / CASE).unlink(missing_ok=True)
    outputs = record.get("outputs") if record else None
    for name in outputs if isinstance(outputs, dict) else ():
        file = folder / str(name)
        if file.resolve().is_relative_to(folder.resolve()):  # the file may have been edited
            with suppress(OSError):
                file.unlink()


def is_held_elsewhere(error: OutputError) -> bool:
    """Return whether the reason of an error is that another command has locked a folder."""
    from filelock import Timeout

    return isinstance(error.__cause__, Timeout)
