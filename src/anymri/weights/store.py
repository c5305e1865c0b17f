"""Write and read weights: safetensors files with their card inside, never a pickle."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from isal import isal_zlib
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from anymri.errors import AnymriError, WeightsError
from anymri.files import replacing, sha256
from anymri.systems.blueprint import blueprint
from anymri.systems.contract import System
from anymri.systems.crops import plain
from anymri.systems.registry import build
from anymri.text import listed, shortened
from anymri.weights.card import FORMAT, WeightsCard
from anymri.weights.locate import find_weights

_log = logging.getLogger(__name__)
_KEY = "anymri"
_GIVE = "Give weights that anymri train or anymri convert wrote."
_MOST_NAMES = 8
# Digits of its SHA-256 in the name of a file of frozen tensors.
FROZEN_DIGITS = 16
# Types of a file that fit the type of a tensor.
_STORED_AS = {torch.float32: ("F64", "F32", "BF16", "F16"), torch.int64: ("I64",)}


def save_weights(
    path: Path, state: Mapping[str, torch.Tensor], card: WeightsCard, frozen: tuple[str, ...] = ()
) -> None:
    """Write a state dict with its card, completely or not at all.

    frozen  prefixes of tensor names that go to a second file in the same folder, named by its contents, so that
            several weights share it
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    card = card.model_copy(update={"frozen_file": None})  # that of a card that was loaded
    if apart := {name: tensors.pop(name) for name in list(tensors) if name.startswith(frozen)}:
        content = save(apart)
        file = path.with_name(f"frozen-{hashlib.sha256(content).hexdigest()[:FROZEN_DIGITS]}.safetensors")
        card = card.model_copy(update={"frozen_file": file.name})
        if not file.exists():
            _write(file, content)
    card = card.model_copy(update={"checksum": _checksum(tensors)})
    # One entry, because the library writes several in a random order.
    _write(path, save(tensors, metadata={_KEY: card.model_dump_json()}))


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        # On a full disk the library's own writer raises an error that nobody would recognise.
        temporary.write_bytes(content)


def load_weights(path: Path, device: str | torch.device = "cpu") -> tuple[System[Any], WeightsCard]:
    """Return a system with its weights, in evaluation mode on `device`, and the card of the weights.

    path  a weights file or run folder

    Nothing is allocated before the card, and the names, shapes and types of all tensors, fit the system.

    Raises `WeightsError` if the file is damaged, has no card, does not fit the network that its card names, or has
    numbers that are not finite, all zero or not those of its checksum.
    """
    file = find_weights(path)
    card = read_card(file)
    try:
        system = blueprint(card.system, card.network)
    except AnymriError as error:
        raise WeightsError(f"{file} does not fit a system: {error.what}", _GIVE) from error
    if system.crop is None and system.usable_crop(card.window) != card.window:
        raise WeightsError(
            f"{file} names windows of {plain(card.window)} voxels, which do not fit {card.system}: "
            f"{system.crop_rule()}.",
            _GIVE,
        )
    _log.info("reading the weights %s of %s", file, card.system)
    files = [file, _frozen_file(file, card.frozen_file)] if card.frozen_file else [file]
    expected = system.state_dict()
    _check_headers(files, card.system, expected)
    state = _tensors(file, expected, device, card.checksum)
    for each in files[1:]:
        state |= _tensors(each, expected, device)
    check_not_zero(state, file)
    system.load_state_dict(state, assign=True)
    if any(buffer.is_meta for buffer in system.buffers()):  # buffers that are not saved have no values yet
        system = build(card.system, card.network)
        system.load_state_dict(state)
    return system.to(device), card


def check_finite(name: str, value: torch.Tensor, file: Path) -> None:
    """Raise `WeightsError` if a tensor has a number that is not finite.

    name  name of the tensor
    file  file that it is from, for the error
    """
    if value.is_floating_point() and value.numel() and not torch.stack(value.aminmax()).isfinite().all():
        raise WeightsError(
            f"The weights in {file} are not finite: {shortened(name)} has NaN or infinity.",
            "The training that wrote them has diverged, or the file is damaged: use other weights.",
        )


def check_not_zero(state: Mapping[str, torch.Tensor], file: Path) -> None:
    """Raise `WeightsError` if every number of a state dict is zero, as in files that were allocated and not written."""
    if not any(value.any() for value in state.values() if value.is_floating_point()):
        raise WeightsError(f"The weights in {file} are all zero.", "Use other weights, or copy the file again.")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as stored:
            yield stored
    except (SafetensorError, OSError, UnicodeError) as error:
        raise WeightsError(f"{file} is damaged or is not a safetensors file.", _GIVE) from error


class _Format(BaseModel):
    """The format of a card, which every version of anymri can read."""

    format: int = FORMAT


def read_card(file: Path) -> WeightsCard:
    """Return the card in a weights file, without its tensors; raise `WeightsError` if it has none that can be read."""
    with _opened(file) as stored:
        metadata = stored.metadata() or {}
    if _KEY not in metadata:
        raise WeightsError(f"{file} does not say which system it belongs to: anymri did not write it.", _GIVE)
    try:
        return WeightsCard.model_validate_json(metadata[_KEY])
    except ValidationError as error:
        if (found := _format_of(metadata[_KEY])) > FORMAT:
            raise WeightsError(
                f"{file} was written by a newer anymri: its card has format {found}, and this version reads {FORMAT}.",
                "Update anymri.",
            ) from error
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "its text"
        reason = shortened(first["msg"].removeprefix("Value error, "))
        raise WeightsError(f"The card of {file} does not fit: {shortened(place)} ({reason}).", _GIVE) from error


def _format_of(card: str) -> int:
    """Return the format that the text of a card states; `FORMAT` where it states none."""
    try:
        return _Format.model_validate_json(card).format
    except ValidationError:
        return FORMAT


def _check_headers(files: Sequence[Path], system: str, expected: Mapping[str, torch.Tensor]) -> None:
    """Raise `WeightsError` if the tensors in files are not those that a system expects."""
    wrong: list[str] = []
    found: set[str] = set()
    for file in files:
        with _opened(file) as stored:
            for name in stored.keys():  # noqa: SIM118
                entry = stored.get_slice(name)
                fits = name in expected and name not in found and tuple(entry.get_shape()) == expected[name].shape
                if not fits or entry.get_dtype() not in _STORED_AS.get(expected[name].dtype, ()):
                    wrong.append(name)
                found.add(name)
    if missing := sorted(expected.keys() - found):
        raise WeightsError(
            f"{files[0]} does not fit {system}: it has no {listed([*map(shortened, missing)], _MOST_NAMES)}.", _GIVE
        )
    if wrong:
        raise WeightsError(
            f"{files[0]} does not fit {system}: other names, shapes or types are expected than those of "
            f"{listed([*map(shortened, sorted(wrong))], _MOST_NAMES)}.",
            _GIVE,
        )


def _tensors(
    file: Path, expected: Mapping[str, torch.Tensor], device: str | torch.device, checksum: str | None = None
) -> dict[str, torch.Tensor]:
    """Return the tensors of a file in the types that are expected, all finite.

    checksum  that of the tensors as they were written, where it is known
    """
    with _opened(file) as stored:
        # Copies, because the file may change while it is mapped into memory.
        tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
    for name, value in tensors.items():
        check_finite(name, value, file)
    if checksum not in (None, _checksum(tensors)):
        raise WeightsError(f"The weights in {file} are damaged: they have changed since they were written.", _GIVE)
    return {name: value.to(device, expected[name].dtype) for name, value in tensors.items()}


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the CRC-32 of the names and numbers of tensors."""
    value = 0
    for name in sorted(tensors):
        numbers = tensors[name].reshape(-1).view(torch.uint8).numpy()
        value = isal_zlib.crc32(numbers.data, isal_zlib.crc32(name.encode(), value))
    return f"{value:08x}"


def _frozen_file(file: Path, name: str) -> Path:
    """Return the file of frozen tensors that belongs to weights; raise `WeightsError` if it is not in their folder."""
    found = file.with_name(name)
    if not found.is_file():
        raise WeightsError(
            f"{file} needs {found.name} in the same folder, and it is not there.",
            "Copy both files into one folder: the second holds the tensors that training left unchanged.",
        )
    if not found.stem.endswith(sha256(found)[:FROZEN_DIGITS]):
        raise WeightsError(f"{found} is damaged: it has changed since it was written.", _GIVE)
    return found
