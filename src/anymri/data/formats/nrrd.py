"""Reading of NRRD files, encodings raw and gzip, with the voxels in the file or in a data file beside it.

Fields (https://teem.sourceforge.net/nrrd/format.html) have the meaning that they have in ITK. Positions count as LPS if
their space does not have anatomical directions.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import check_voxels, damaged, degenerate, not_scalar
from anymri.data.formats.stored import (
    LPS_TO_RAS,
    Header,
    Voxels,
    data_file,
    excerpt,
    note_missing,
    read_line,
    read_start,
    read_voxels,
    unsupported,
)

SUFFIXES = (".nrrd",)

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODES = {name: code for code, names in _TYPES.items() for name in names}
_BYTE_ORDERS = {"little": "<", "big": ">"}
_MOST_AXES = 16
# Signs that turn the axes of a space into LPS.
_ANATOMICAL = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_VECTOR = re.compile(r"none|\([^()]*\)")
_OTHER_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
_MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_UNKNOWN = ("none", "???")
_POSITIONS = ("domain", "space", "time", *_UNKNOWN)  # kinds of axes that are not components of a value
# Names without spaces and in small letters: some exist in both forms.
_FIELDS = {
    *("dimension", "sizes", "type", "endian", "encoding", "datafile", "byteskip", "lineskip", "kinds"),
    *("space", "spacedimension", "spacedirections", "spaceorigin", "spaceunits", "units"),
    *("spacings", "axismins", "axismaxs", "centers"),
    *("number", "content", "blocksize", "min", "max", "oldmin", "oldmax", "sampleunits"),
    *("thicknesses", "labels", "measurementframe"),
}


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], None]:
    """Return the array, the affine and None of an NRRD file; see `anymri.data.formats`."""
    header = _header(path)
    axes = header.integer("dimension")
    if not 1 <= axes <= _MOST_AXES:
        raise damaged(path, f"{axes} is not a number of axes")
    sizes = header.integers("sizes", axes)
    space, vectors = _space(header), _vectors(header, axes)
    kept = _axes_of_positions(header, sizes, vectors)
    shape = tuple(sizes[axis] for axis in kept)
    volumes = math.prod(size for axis, size in enumerate(sizes) if axis not in kept)
    dtype = _dtype(header)
    check_voxels(path, shape if volumes == 1 else (*shape, volumes), dtype)
    voxels = _voxels(header)
    affine = _affine_of_space(header, space, vectors) if space else _affine_of_spacings(header, axes, kept[:3])
    return read_voxels(path, voxels, shape, dtype), affine, None


def voxels_of(path: Path) -> Voxels:
    """Return where the voxels of an image are."""
    return _voxels(_header(path))


def _header(path: Path) -> Header:
    content = read_start(path)
    line, end = read_line(path, content, 0)
    if not re.fullmatch("NRRD000[1-5]", line):
        raise damaged(path, "it does not begin as an NRRD file")
    fields: dict[str, str] = {}
    while end < len(content) and not fields.get("datafile", "").startswith("LIST"):
        line, end = read_line(path, content, end)
        if not line:
            break
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # a comment, or a key that belongs to another program
            continue
        field = "".join(name.lower().split()).replace("centerings", "centers")
        if not colon or field not in _FIELDS:
            raise damaged(path, f"its header has the line {excerpt(line)}")
        if field in fields:
            raise damaged(path, f"its header has {field} twice")
        fields[field] = value.strip()
    return Header(path, fields, end)


def _axes_of_positions(header: Header, sizes: list[int], vectors: list[NDArray[np.float64] | None]) -> list[int]:
    """Return the axes of the array that are x, y and z, and perhaps time if the header has no directions."""
    kinds = header.words("kinds", len(sizes), "none " * len(sizes))
    if any(kind not in (*_POSITIONS, "list") and size > 1 for kind, size in zip(kinds, sizes, strict=True)):
        raise not_scalar(header.path)
    if not vectors:
        return [axis for axis, kind in enumerate(kinds) if kind in _POSITIONS]
    kept = [axis for axis, vector in enumerate(vectors) if vector is not None]
    if len(kept) != 3 or any(kinds[axis] not in _POSITIONS for axis in kept):
        raise degenerate(header.path, f"its header has directions for {len(kept)} axes, which are not x, y and z")
    return kept


def _dtype(header: Header) -> np.dtype[np.generic]:
    name, order = header.text("type"), header.text("endian")
    if name == "block":
        raise not_scalar(header.path)
    if name not in _CODES:
        raise header.unknown("type")
    if order not in _BYTE_ORDERS and not _CODES[name].endswith("1"):
        raise damaged(header.path, f"its header has {excerpt(order)} as endian")
    return np.dtype(_BYTE_ORDERS.get(order, "=") + _CODES[name])


def _space(header: Header) -> str | None:
    """Return the name of the space of positions, None if the header has spacings along its axes only."""
    if not {"space", "spacedimension"} & header.fields.keys():
        return None
    space = header.text("space", _OTHER_SPACES[0])
    if space not in (*_ANATOMICAL, *_OTHER_SPACES) or header.text("spacedimension", "3") != "3":
        raise header.unknown("space" if "space" in header.fields else "spacedimension")
    return space


def _affine_of_space(header: Header, space: str, vectors: list[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """Return the affine of directions and origin in a space; raise `ImageError` if there are spacings besides."""
    mixed = {"spacings", "axismins", "axismaxs", "units"} & header.fields.keys()
    if mixed or not vectors:
        reason = f"{' and '.join(sorted(mixed))} besides a space" if mixed else "a space without directions of the axes"
        raise degenerate(header.path, f"its header has {reason}")
    _check_units(header, "spaceunits")
    note_missing(header.path, directions=space not in _ANATOMICAL)
    to_world = np.eye(4)
    to_world[:3, :3] = np.transpose([vector for vector in vectors if vector is not None])
    if "spaceorigin" in header.fields:
        to_world[:3, 3] = _vector(header, "spaceorigin", header.text("spaceorigin"))
    return LPS_TO_RAS @ np.diag([*_ANATOMICAL.get(space, (1, 1, 1)), 1.0]) @ to_world


def _affine_of_spacings(header: Header, axes: int, kept: list[int]) -> NDArray[np.float64]:
    """Return the affine of axes along L, P and S: with a spacing, and perhaps with the place where they begin."""
    is_spaced = "spacings" in header.fields
    if not is_spaced and {"axismins", "axismaxs", "spacedirections", "spaceorigin"} & header.fields.keys():
        raise degenerate(header.path, "its header has a position without spacings or space")
    _check_units(header, "units")
    note_missing(header.path, spacing=not is_spaced, directions=True)
    spacing = header.numbers("spacings", axes, "1 " * axes)[kept]
    to_world = np.eye(4)
    to_world[:3, :3] = np.diag(spacing)
    if "axismins" in header.fields:
        centers = header.words("centers", axes, "cell " * axes)
        # The first voxel of a cell-centred axis begins there, that of a node-centred one is there.
        half = np.array([centers[axis] != "node" for axis in kept]) / 2
        to_world[:3, 3] = header.numbers("axismins", axes)[kept] + half * spacing
    return LPS_TO_RAS @ to_world


def _vectors(header: Header, axes: int) -> list[NDArray[np.float64] | None]:
    """Return the direction of each axis, None for one that is not in space; an empty list if the header has none."""
    if "spacedirections" not in header.fields:
        return []
    text = header.text("spacedirections")
    words = _VECTOR.findall(text)
    if len(words) != axes or _VECTOR.sub("", text).strip():
        raise damaged(header.path, f"its header has {excerpt(text)} as spacedirections of {axes} axes")
    return [None if word == "none" else _vector(header, "spacedirections", word) for word in words]


def _vector(header: Header, name: str, text: str) -> NDArray[np.float64]:
    words = text.strip("()").replace(",", " ").split()
    if len(words) != 3:
        raise damaged(header.path, f"its header has {excerpt(text)} in {name}, not three numbers")
    return header.parsed(name, words)


def _check_units(header: Header, name: str) -> None:
    for unit in re.findall('"([^"]*)"', header.text(name)):
        if unit.strip() not in (*_MILLIMETRES, *_UNKNOWN):
            raise unsupported(header.path, f"{excerpt(unit)} in {name}")


def _voxels(header: Header) -> Voxels:
    encoding = header.text("encoding")
    if encoding not in ("raw", "gzip", "gz"):
        raise header.unknown("encoding")
    is_local = "datafile" not in header.fields
    file, start = (header.path, header.end) if is_local else (data_file(header.path, header.fields["datafile"]), 0)
    is_deflated = encoding != "raw"
    lines, skip = header.integer("lineskip", "0"), header.integer("byteskip", "0")
    if lines or skip < -1 or (skip and is_deflated):
        raise unsupported(header.path, f"{lines} as lineskip and {skip} as byteskip")
    return Voxels(file, start + max(skip, 0), at_end=skip == -1, deflated=is_deflated)
