"""The studio without its network: what is open, and the jobs that work on it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anymri._version import __version__
from anymri.data.case import check_name
from anymri.errors import AnymriError, CohortError, ConfigurationError, ModalityError
from anymri.modalities import Subset
from anymri.studio.entries import Entries, Entry
from anymri.studio.jobs import Batch, Job, Jobs
from anymri.studio.uploads import Upload
from anymri.text import shown

# Seconds that a request waits for a job.
LONGEST_WAIT = 600.0
# Batches that are remembered for pages that ask for them.
_REMEMBERED = 100


class NotFoundError(AnymriError):
    """Something that is not open, or not any more."""


class Studio:
    """Everything that is open, with the queue of the jobs that work on it.

    entries      cases and evaluations
    jobs         queue of the child process
    weights      name -> file
    corrections  folder that gets corrected label maps
    """

    def __init__(
        self,
        entries: Entries,
        jobs: Jobs,
        weights: Mapping[str, Path],
        corrections: Path,
        scheme: str | None = None,
        named: bool = True,
    ) -> None:
        """Create the studio, and begin to load what it needs.

        scheme  label scheme of expert label maps; None for that of the weights
        named   whether the user named the weights, so that the first one is used first; otherwise the best is
        """
        self.entries, self.jobs = entries, jobs
        self.weights, self.corrections = dict(weights), corrections
        self._scheme = scheme
        self._batches: dict[str, Batch] = {}
        self._started = jobs.submit(Job(("describe", {"weights": self.weights, "named": named}), ""))

    def state(self) -> dict[str, Any]:
        """Return the weights and entries; the weights are described once the child process has started."""
        self._started.over.wait(LONGEST_WAIT)
        found = self._started.result or {"weights": [], "weights_in_use": None, "problem": None}
        return {
            "version": __version__,
            "weights": found["weights"],
            "weights_in_use": found["weights_in_use"],
            "problem": found["problem"] or self._started.as_json()["error"],
            "entries": [entry.as_json() for entry in self.entries],
        }

    @property
    def scheme(self) -> str | None:
        """Label scheme of expert label maps whose case does not name one; None if it is not known."""
        found = self._started.result or {}
        of_weights: str | None = found.get("scheme")
        return self._scheme or of_weights

    # Work.

    def submit(
        self,
        entry: Entry,
        method: str,
        arguments: Mapping[str, Any],
        then: Callable[[Any], Any],
        key: object = None,
        ahead: bool = False,
    ) -> Job:
        """Submit a call of a method of the `Desk` about a case; see `Job`."""
        source = entry.of_case
        return self.jobs.submit(
            Job((method, {"source": source, **arguments}), entry.id, then, key, ahead, source.plain)
        )

    def add_batch(self, jobs: list[Job]) -> Batch:
        """Return jobs as one that the page can ask for."""
        batch = Batch(jobs)
        self._batches[batch.id] = batch
        for old in list(self._batches)[:-_REMEMBERED]:
            del self._batches[old]
        return batch

    def job(self, job_id: str) -> Job | Batch:
        """Return the job with an identifier; raise `NotFoundError` if it does not exist."""
        found = self._batches.get(job_id) or self.jobs.find(job_id)
        if found is None:
            raise NotFoundError("This job does not exist any more.", "Start it again.")
        return found

    def cancel(self, job_id: str) -> Job | Batch:
        """Cancel a job and return it."""
        found = self.job(job_id)
        for job in found.jobs if isinstance(found, Batch) else [found]:
            self.jobs.cancel(job)
        return found

    # Cases and evaluations.

    def case(self, case_id: str) -> Entry:
        """Return a case; raise `NotFoundError` if it is not open."""
        found = self.entries.get(case_id, "case")
        if found is None:
            raise NotFoundError("This case is not open.", "Open it again.")
        return found

    def evaluation(self, evaluation_id: str) -> Path:
        """Return the folder of an evaluation; raise `NotFoundError` if it is not open."""
        found = self.entries.get(evaluation_id, "evaluation")
        if found is None or found.evaluation is None:
            raise NotFoundError("This evaluation is not open.", "Name it on the command line: anymri studio EVALUATION")
        return found.evaluation

    def new_folder(self) -> Path:
        """Return a path for the files of an upload."""
        return self.entries.folder / f"upload-{secrets.token_hex(6)}"

    def open_uploaded(self, upload: Upload) -> Entry:
        """Open what a browser sent; raise an `AnymriError` if it cannot be stored."""
        place = upload.place()
        name = upload.names[0].name.partition(".")[0] if place == upload.folder else place.name
        try:
            check_name(name)
        except CohortError:
            name = "case"
        return self.entries.add_case(name, place=place, is_private=True, scheme=self._scheme)

    def open_evaluated(self, evaluation_id: str, case: str) -> Job:
        """Begin to open a case of an evaluation, from the files that it names; the result has the entry."""
        folder = self.evaluation(evaluation_id)
        known = next((each for each in self.entries if each.parent == evaluation_id and each.name == case), None)
        if known is not None:
            return self.jobs.remember(Job(("", {}), known.id), {"entry": known.as_json()})

        def then(found: dict[str, Any]) -> Any:
            files = {key: found[key] for key in ("scans", "label", "brain_mask", "scheme")}
            return {"entry": self.entries.add_case(case, parent=evaluation_id, **files).as_json()}

        return self.jobs.submit(Job(("locate", {"evaluation": folder, "case": case}), evaluation_id, then))

    def close(self, case_id: str) -> None:
        """Close a case, and free its memory and temporary files."""
        entry = self.case(case_id)
        self.entries.remove(entry)
        self.jobs.cancel_all(entry.id)
        source = entry.of_case

        def remove(value: Any) -> None:
            shutil.rmtree(source.folder, ignore_errors=True)
            folder = self.entries.folder
            if source.place is not None and source.place.is_relative_to(folder):
                shutil.rmtree(folder / source.place.relative_to(folder).parts[0], ignore_errors=True)

        self.jobs.submit(Job(("forget", {"source": source}), entry.id, remove))

    # Parts of requests, checked.

    def weights_file(self, name: Any) -> Path:
        """Return the file of weights; raise `NotFoundError` if the studio does not offer them."""
        if not isinstance(name, str) or name not in self.weights:
            raise NotFoundError(
                f"{shown(name, 60)} is not among the weights of the studio.",
                "Install some with `anymri weights add FILE-OR-URL`, or name some: anymri studio --weights NAME",
            )
        return self.weights[name]


def prepared(entry: Entry) -> dict[str, Any]:
    """Return what is known of a prepared case; raise `ConfigurationError` if it is not prepared."""
    if entry.prepared is None:
        raise ConfigurationError(f"{entry.name} is not prepared yet.", "Start the preparation first.")
    return entry.prepared


def existing(entry: Entry) -> Subset:
    """Return the modalities of a prepared case."""
    return Subset.of(prepared(entry)["modalities"])


def chosen_subset(entry: Entry, subset: Any) -> str:
    """Return the name of a subset of a prepared case; raise `ModalityError` if the case does not have it."""
    chosen = Subset.parse(subset if isinstance(subset, str) else "")
    if not chosen <= existing(entry):
        raise ModalityError(f"{entry.name} has {existing(entry)}, not {chosen}.", "Choose modalities that exist.")
    return str(chosen)
