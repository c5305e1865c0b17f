"""Reading of MetaImage files: .mha with local data, .mhd with a data file beside it.

Fields have the meaning that they have in ITK. A field that ITK ignores, although it changes voxels or geometry, is
refused.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import check_voxels, damaged, not_scalar
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

SUFFIXES = (".mha", ".mhd")

_TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long": "i4",
    "met_ulong": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
_MOST_AXES = 10
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")
# Names of one field each.
_ORIGIN = ("Offset", "Origin", "Position")
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_USED = (
    *("ObjectType", "NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "ElementDataFile", "HeaderSize"),
    *("BinaryData", "CompressedData", "CompressedDataSize", "DistanceUnits"),
    *("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"),
    *("ElementSpacing", "ElementSize"),
    *(*_ORIGIN, *_DIRECTIONS, *_BIG_ENDIAN),
)
_SPELLING = {name.lower(): name for name in _USED}


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], None]:
    """Return the array, the affine and None of a MetaImage file; see `anymri.data.formats`."""
    header = _header(path)
    _check_kind(header)
    axes = header.integer("NDims")
    if not 1 <= axes <= _MOST_AXES:
        raise damaged(path, f"{axes} is not a number of axes")
    shape = tuple(header.integers("DimSize", axes))
    dtype = np.dtype((">" if _flag(header, *_BIG_ENDIAN) else "<") + _TYPES[header.text("ElementType")])
    check_voxels(path, shape, dtype)
    voxels, affine = _voxels(header), _affine(header, axes)
    return read_voxels(path, voxels, shape, dtype), affine, None


def voxels_of(path: Path) -> Voxels:
    """Return where the voxels of an image are."""
    return _voxels(_header(path))


def _header(path: Path) -> Header:
    content, end = read_start(path), 0
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        if end >= len(content):
            raise damaged(path, "its header has no ElementDataFile")
        line, end = read_line(path, content, end)
        if not line.strip():
            continue
        name, *values = re.split("[=:]", line, maxsplit=1)
        known = _SPELLING.get(name.strip().lower())
        if not values:
            raise damaged(path, f"its header has the line {excerpt(line)}")
        if known is None:
            continue
        if known in fields:
            raise damaged(path, f"its header has {known} twice")
        if known != name.strip():
            raise damaged(path, f"its header has {excerpt(name.strip())} for {known}")
        fields[known] = values[0].strip()
    return Header(path, fields, end)


def _check_kind(header: Header) -> None:
    """Raise `ImageError` unless the file is an image of one binary value per voxel, in millimetres."""
    kind = header.text("ElementType")
    if kind.endswith(("_array", "_matrix")) or header.text("ElementNumberOfChannels", "1") != "1":
        raise not_scalar(header.path)
    known = {
        "ObjectType": header.text("ObjectType", "image") == "image",
        "ElementType": kind in _TYPES,
        "BinaryData": "BinaryData" not in header.fields or _flag(header, "BinaryData"),
        "DistanceUnits": header.text("DistanceUnits", "mm") in ("mm", "?"),
        "ElementToIntensityFunctionSlope": header.numbers("ElementToIntensityFunctionSlope", 1, "1") == 1,
        "ElementToIntensityFunctionOffset": header.numbers("ElementToIntensityFunctionOffset", 1, "0") == 0,
    }
    for name, is_known in known.items():
        if not is_known:
            raise header.unknown(name)


def _affine(header: Header, axes: int) -> NDArray[np.float64]:
    # The size of a voxel counts as its distance to the next one if that is missing.
    spacing_name = "ElementSpacing" if "ElementSpacing" in header.fields else "ElementSize"
    spacing = header.numbers(spacing_name, axes, "1 " * axes)
    origin = _one_of(header, _ORIGIN, axes)
    directions = _one_of(header, _DIRECTIONS, axes**2)
    note_missing(header.path, spacing=spacing_name not in header.fields, directions=directions is None)
    rows = np.reshape(np.eye(axes) if directions is None else directions, (axes, axes))
    if rows[:3, 3:].any() or rows[3:, :3].any():
        raise unsupported(header.path, "a fourth axis that depends on the others")
    to_world = np.eye(4)
    to_world[:3, :3] = rows[:3, :3].T * spacing[:3]
    to_world[:3, 3] = 0 if origin is None else origin[:3]
    return LPS_TO_RAS @ to_world


def _voxels(header: Header) -> Voxels:
    name = header.fields["ElementDataFile"]
    is_local = name.lower() == "local"
    file, start = (header.path, header.end) if is_local else (data_file(header.path, name), 0)
    skip, size = header.integer("HeaderSize", "0"), header.integer("CompressedDataSize", "0")
    is_deflated = _flag(header, "CompressedData")
    if skip < -1 or 0 < skip < start or (skip and is_deflated):
        raise header.unknown("HeaderSize")
    return Voxels(file, max(skip, start), at_end=skip == -1, size=size or None, deflated=is_deflated)


def _one_of(header: Header, names: tuple[str, ...], count: int) -> NDArray[np.float64] | None:
    """Return the numbers of a field that has several names, None if it is missing."""
    given = [name for name in names if name in header.fields]
    values = [header.numbers(name, count) for name in given]
    if any((value != values[0]).any() for value in values):
        raise damaged(header.path, f"its header has different values as {' and '.join(given)}")
    return values[0] if values else None


def _flag(header: Header, *names: str) -> bool:
    """Return the value of a field that may have several names, False if it is missing."""
    values = [header.text(name) for name in names if name in header.fields]
    if not set(values) <= {*_TRUE, *_FALSE} or len({value in _TRUE for value in values}) > 1:
        raise damaged(header.path, f"its header has {' and '.join(map(excerpt, values))} as {' and '.join(names)}")
    return any(value in _TRUE for value in values)
