"""Reading of thousands of changed image files, each in a process that may crash, hang or fill the memory.

`make fuzz` prints how many were read and refused, and keeps each file that is not read right, or not refused with the
reason, in fuzz/SEED. SimpleITK and nibabel read the files again, to compare voxels and position.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from anymri.data.formats.checks import geometry_fault
from anymri.data.image import Image, read_image
from anymri.errors import AnymriError, InputWarning
from robustness.mutations import write_mutated

MOST_MEMORY = 10**9
MOST_SECONDS = 10
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# For such files, ITK returns memory that was never written.
_WITHOUT_SIZE = re.compile(rb"(?!.*CompressedDataSize).*CompressedData\s*[=:]\s*[Tt1].*", re.DOTALL)

Volume = tuple[np.ndarray, np.ndarray]


@dataclass
class Report:
    """How many files were read and refused, what failed by seed, and the largest values with their seeds."""

    read: int = 0
    refused: int = 0
    compared: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)

    def add(self, other: Report) -> None:
        self.read += other.read
        self.refused += other.refused
        self.compared += other.compared
        self.failures |= other.failures
        self.slowest, self.largest = max(self.slowest, other.slowest), max(self.largest, other.largest)

    def __str__(self) -> str:
        lines = [
            f"{self.read} files read ({self.compared} compared with other readers), {self.refused} refused, "
            f"{len(self.failures)} failed; slowest {self.slowest[0]:.2f} s (seed {self.slowest[1]}), "
            f"most memory {self.largest[0] / 1e6:.1f} MB (seed {self.largest[1]})"
        ]
        return "\n".join(lines + [f"seed {seed}: {failure}" for seed, failure in sorted(self.failures.items())])


def check(seeds: Iterable[int], keep: Path) -> Report:
    """Read the files of the seeds in a process of their own, which is started again after each that ends it."""
    report, waiting = Report(), list(seeds)
    context = multiprocessing.get_context("fork")
    while waiting:
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=_read_all, args=(waiting, keep, sender))
        worker.start()
        sender.close()
        while waiting:
            failure = ""
            try:
                if not receiver.poll(3 * MOST_SECONDS):
                    failure = "hangs"
                else:
                    report.add(receiver.recv())
            except EOFError:
                worker.join()
                failure = f"ends the process with {worker.exitcode}"
            seed = waiting.pop(0)
            if failure:
                report.failures[seed] = failure
                break
        if worker.is_alive() and failure:
            worker.kill()
        worker.join()
        receiver.close()
    return report


def _read_all(seeds: list[int], keep: Path, sender: Connection) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)  # ITK prints there
    for seed in seeds:
        folder = keep / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        report = _read_one(seed, folder)
        if not report.failures:
            shutil.rmtree(folder)
        sender.send(report)


def _read_one(seed: int, folder: Path) -> Report:
    """Return the report of one file, with the failure if there is one."""
    path = write_mutated(seed, folder)
    image, failure = None, ""
    tracemalloc.start()
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as issued, _limited_memory():
        warnings.simplefilter("always")
        try:
            image = read_image(path)
        except AnymriError as error:
            failure = _fault_of_error(error, path)
        except Exception as error:  # noqa: BLE001 - that it is another one is what is looked for
            failure = f"{type(error).__name__}: {error}"
    seconds, memory = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    others = [str(note.message) for note in issued if not issubclass(note.category, InputWarning)]
    report = Report(read=image is not None, refused=image is None, slowest=(seconds, seed), largest=(memory, seed))
    if image is not None:
        references = _references(path)
        report.compared = bool(references)
        failure = _fault_of_image(image) or (_fault_of_values(image, references) if not issued else "")
    if seconds > MOST_SECONDS or memory > MOST_MEMORY or others:
        failure = failure or f"takes {seconds:.1f} s and {memory} bytes, with the warnings {others}"
    if failure:
        report.failures[seed] = f"{path}: {failure}"
    return report


def _fault_of_error(error: AnymriError, path: Path) -> str:
    """Return what is wrong with an error: each has two sentences, and the first one names the file."""
    sentences = (error.what, error.fix)
    if str(path) not in error.what or not all(text.endswith(".") and "\n" not in text for text in sentences):
        return f"refused with {error}"
    if "fit into the memory" in error.what or "anymri cannot read" in error.what:
        return f"refused without the reason: {error!r} from {error.__cause__!r}"
    return ""


def _fault_of_image(image: Image) -> str:
    if image.array.ndim != 3 or image.array.dtype != np.float32 or not np.isfinite(image.array).all():
        return f"read as {image.array.dtype} of shape {image.array.shape}, perhaps not finite"
    return geometry_fault(image.affine) or ""


def _fault_of_values(image: Image, references: list[Volume]) -> str:
    """Return how the image differs from other readers that agree with each other."""
    if any(not _equal(*other, *references[0]) for other in references[1:]):
        return ""
    if references and not _equal(image.array, image.affine, *references[0]):
        return "is read as another image than by other readers, without a note"
    return ""


def _equal(array: np.ndarray, affine: np.ndarray, other: np.ndarray, other_affine: np.ndarray) -> bool:
    return (
        array.shape == other.shape
        and np.allclose(array, other, rtol=1e-5, atol=1e-30, equal_nan=True)
        and np.allclose(affine, other_affine, rtol=1e-4, atol=1e-3 * np.abs(affine[:3, :3]).max())
    )


def _references(path: Path) -> list[Volume]:
    """Return the image as SimpleITK and nibabel read it, of those that do."""
    suffix = path.name.partition(".")[2]
    readers = {"nii": [_by_itk, _by_nibabel], "mgh": [_by_nibabel]}
    readers |= {"nii.gz": readers["nii"], "mgz": readers["mgh"]}
    if suffix.startswith("mh") and _WITHOUT_SIZE.fullmatch(path.read_bytes()):
        return []
    volumes = [_in_a_child(reader, path) for reader in readers.get(suffix, [_by_itk])]
    # Where one refuses a NIfTI file, the other is not always right: SimpleITK skips voxels if vox_offset is too small.
    return [] if any(volume is None for volume in volumes) else [volume for volume in volumes if volume is not None]


def _in_a_child(reader: Callable[[Path], Volume], path: Path) -> Volume | None:
    """Return what a reader returns, None if it raises an error, crashes or hangs."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        signal.alarm(MOST_SECONDS)
        try:
            with _limited_memory(), warnings.catch_warnings(action="ignore"):
                sender.send(reader(path))
        finally:
            os._exit(0)
    sender.close()
    try:
        volume: Volume = receiver.recv()
    except EOFError:
        return None
    finally:
        os.waitpid(child, 0)
        receiver.close()
    return volume


def _by_itk(path: Path) -> Volume:
    image = SimpleITK.ReadImage(str(path))
    axes = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    array = SimpleITK.GetArrayFromImage(image).T.reshape(image.GetSize()[:3], order="F")
    return array.astype(np.float32), _LPS_TO_RAS @ affine


def _by_nibabel(path: Path) -> Volume:
    image = nib.load(path)
    array = image.get_fdata(dtype=np.float32)
    return array.reshape(array.shape[:3], order="F"), image.affine


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Let this process have as much more memory as a reader may take, and no more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> int:
    """Read as many files as the first argument says, from the seed of the second one on, and print the report."""
    count, first = (int(word) for word in [*sys.argv[1:], "0"][:2])
    workers = os.cpu_count() or 1
    keep = Path("fuzz")
    report = Report()
    with ThreadPoolExecutor(workers) as pool:
        for part in pool.map(lambda start: check(range(first + start, first + count, workers), keep), range(workers)):
            report.add(part)
    print(report)
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
