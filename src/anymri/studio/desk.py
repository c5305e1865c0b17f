"""The work of the child process: loaded weights, prepared and encoded cases, and the methods that the page calls.

Memory is bounded: at most two prepared cases and two loaded weights are kept, each weights with the encodings of one
case, of which at most `ENCODED_BYTES` are in memory and the rest in a temporary file. Everything else is in files.
"""

from __future__ import annotations

import pickle
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from isal import igzip

from anymri.data.memory import keep_freed_memory
from anymri.errors import RunError
from anymri.progress import Progress
from anymri.studio.source import CaseSource

if TYPE_CHECKING:
    from anymri.data.prepared import Prepared
    from anymri.inference.encoded import EncodedVolume
    from anymri.inference.segmenter import Segmenter
    from anymri.prepare.preparation import Preparation

# Prepared cases and loaded weights that are kept in memory, and bytes of encodings in memory per weights.
MOST_STUDIES, MOST_WEIGHTS, ENCODED_BYTES = 2, 2, 1_000_000_000
_PREPARATION = "preparation.pickle.gz"

V = TypeVar("V")


class Desk:
    """State of the child process, and the methods that the server calls; each returns plain values and paths."""

    def __init__(self, device: str = "auto", lane: str = "torch", brain: str = "auto") -> None:
        """Create an empty desk.

        device, lane  see `anymri.inference.segmenter.Segmenter.load`
        brain         how the brain is found in scans with skull, see `anymri.prepare.preparation.prepare`
        """
        keep_freed_memory()
        self._device, self._lane, self._brain = device, lane, brain
        self._studies: OrderedDict[str, Preparation] = OrderedDict()
        self._segmenters: OrderedDict[Path, Segmenter] = OrderedDict()
        self._encoded: dict[Path, tuple[str, Prepared, EncodedVolume]] = {}

    def describe(self, weights: Mapping[str, Path], named: bool, progress: Progress) -> dict[str, Any]:
        """Import the networks, and return what the page says about weights, see `anymri.studio.offering`."""
        from anymri.studio.offering import describe

        return describe(weights, named)

    def examine(self, source: CaseSource, progress: Progress) -> dict[str, Any]:
        """Return what can be found out about the scans of a case, see `anymri.studio.examination`.

        A zip archive is unpacked before, so that a person can choose among its files.
        """
        from anymri.prepare.searching import is_zip
        from anymri.studio.examination import examine
        from anymri.studio.uploads import unpack

        if source.place is not None and is_zip(source.place):
            folder = source.folder / "unpacked"
            if not folder.exists():
                source.folder.mkdir(parents=True, exist_ok=True)
                unpack(source.place, folder)
            source = replace(source, place=folder, is_private=True)
        return {**examine(source, self._brain, progress), "place": source.place, "is_private": source.is_private}

    def prepare(self, source: CaseSource, scheme: str | None, progress: Progress) -> dict[str, Any]:
        """Read and prepare a case and write its volumes and label maps, see `anymri.studio.preparing`."""
        from anymri.studio.preparing import read, written

        self.forget(source, progress)
        shutil.rmtree(source.maps, ignore_errors=True)
        preparation = read(source, self._brain, progress)
        source.maps.mkdir(parents=True)
        if not preparation.can_be_read_again:
            progress("keeping the scans", 0, 1)
            self._store(source, preparation)
        self._keep(self._studies, source.id, preparation, MOST_STUDIES)
        return written(source, preparation, scheme, progress)

    def segment(
        self, source: CaseSource, weights: Path, subset: str, inputs: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """Segment a case from a subset and write the maps, see `anymri.studio.segmenting`.

        inputs  files of the case with their hashes when it was prepared
        """
        from anymri.studio.segmenting import segment

        preparation = self.study(source, inputs, progress)
        return segment(self, source, preparation, weights, subset, progress)

    def relate(
        self, source: CaseSource, weights: Path, inputs: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """Compare the segmentations of subsets with one modality more or less, see `anymri.studio.segmenting`."""
        from anymri.studio.segmenting import relate

        return relate(source, self.study(source, inputs, progress), weights)

    def compare(self, source: CaseSource, inputs: Mapping[str, Any], progress: Progress, **pair: Any) -> dict[str, Any]:
        """Compare two label maps of a case, see `anymri.studio.comparing`."""
        from anymri.studio.comparing import compare

        return compare(source, self.study(source, inputs, progress), **pair)

    def correct(
        self, source: CaseSource, inputs: Mapping[str, Any], progress: Progress, **correction: Any
    ) -> dict[str, Any]:
        """Save a label map that a person has changed, see `anymri.studio.correcting`."""
        from anymri.studio.correcting import save

        return save(source, self.study(source, inputs, progress), **correction)

    def export(
        self, source: CaseSource, weights: Path, subset: str, inputs: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """Write the result of a subset as `anymri segment` does, with its page, see `anymri.studio.exporting`."""
        from anymri.studio.exporting import export

        return export(self, source, self.study(source, inputs, progress), weights, subset, progress)

    def locate(self, evaluation: Path, case: str, progress: Progress) -> dict[str, Any]:
        """Return the files of a case of an evaluation; raise an `AnymriError` if they have changed."""
        from anymri.analysis.reading import read_evaluation
        from anymri.evaluation.originals import recorded_case

        stored = read_evaluation(evaluation)
        found, scheme = recorded_case(stored, case), stored.configuration.get("label_scheme")
        return {"scans": dict(found.scans), "label": found.label, "brain_mask": found.brain_mask, "scheme": scheme}

    def forget(self, source: CaseSource, progress: Progress) -> dict[str, Any]:
        """Free the memory of a case."""
        self._studies.pop(source.id, None)
        for weights in [each for each, (case, _, _) in self._encoded.items() if case == source.id]:
            self._encoded.pop(weights)[2].close()
        return {}

    def study(self, source: CaseSource, inputs: Mapping[str, Any], progress: Progress) -> Preparation:
        """Return a prepared case, from memory, from the file of its preparation, or from its scans.

        Raises `RunError` if the scans have changed since the page shows them.
        """
        from anymri.studio.preparing import read

        if source.id not in self._studies:
            file = source.maps / _PREPARATION
            if file.exists():
                with igzip.open(file) as stream:
                    preparation = pickle.load(stream)  # written by `_store` in a folder of this user alone
            else:
                preparation = read(source, self._brain, progress)
            if preparation.inputs != inputs:
                raise RunError(
                    f"The files of {source.name} have changed since it was opened.", "Close the case and open it again."
                )
            self._keep(self._studies, source.id, preparation, MOST_STUDIES)
        self._studies.move_to_end(source.id)
        return self._studies[source.id]

    def segmenter(self, weights: Path) -> Segmenter:
        """Return loaded weights."""
        from anymri.inference.segmenter import Segmenter

        if weights not in self._segmenters:
            loaded = Segmenter.load(weights, self._device, self._lane)
            for dropped in self._keep(self._segmenters, weights, loaded, MOST_WEIGHTS):
                if dropped in self._encoded:
                    self._encoded.pop(dropped)[2].close()
        self._segmenters.move_to_end(weights)
        return self._segmenters[weights]

    def encoded(
        self, source: CaseSource, preparation: Preparation, weights: Path, progress: Progress
    ) -> tuple[Prepared, EncodedVolume]:
        """Return a case as weights take it, and its encodings, which are computed at the first call."""
        segmenter = self.segmenter(weights)
        case, prepared, volume = self._encoded.get(weights, ("", None, None))
        if case != source.id or prepared is None or volume is None:
            if volume is not None:
                self._encoded.pop(weights)
                volume.close()
            progress("encoding", 0, 1)
            prepared = segmenter.prepare(preparation.study)
            volume = segmenter.encode(prepared, ENCODED_BYTES, progress=progress)
            self._encoded[weights] = source.id, prepared, volume
        return prepared, volume

    @staticmethod
    def _store(source: CaseSource, preparation: Preparation) -> None:
        with igzip.open(source.maps / _PREPARATION, "wb", compresslevel=0) as stream:
            pickle.dump(preparation, stream, protocol=5)

    @staticmethod
    def _keep(kept: OrderedDict[Any, V], key: Any, value: V, most: int) -> list[Any]:
        """Keep a value, and return the keys of those that are dropped for it."""
        kept[key] = value
        kept.move_to_end(key)
        dropped = []
        while len(kept) > most:
            dropped.append(kept.popitem(last=False)[0])
        return dropped
