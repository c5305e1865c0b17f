"""Image files of every format, changed at random: the same seed makes the same file."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

# Bytes in which the headers of the binary formats end.
_HEADER = 600
_SPECIAL = (0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**63 - 1)
_SPECIAL_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 1e300, float("inf"), float("-inf"), float("nan"))
_SPECIAL_WORDS = (
    *("0", "-1", "1", "2", "3", "4", "1e999", "nan", "inf", "-0", "1e-30", "99999999999", "0x3", "3.0", "1_0", "٣", ""),
    *("True", "none", "()", "(1,0,0)", "LOCAL", "LIST", "RAS", "MET_CHAR", "gzip", "x" * 600, "%n%s%d", "\x00", "/"),
)
_SPECIAL_LINES = (
    *("NDims = 3", "NDims = 93", "NDims=3", "ndims = 3", "Comment = NDims = 93", "DimSize = 9 9 9", "HeaderSize = -1"),
    *("CompressedData = True", "CompressedDataSize = 5", "ElementNumberOfChannels = 2", "ElementDataFile = %s%n%d"),
    *("ElementDataFile = /etc/passwd", "ElementDataFile = ../a.raw", "ElementDataFile = LIST"),
    *("BinaryDataByteOrderMSB = True", "ElementToIntensityFunctionSlope = 2", "ElementSize = 9 9 9", "# sizes: 9 9 9"),
    *("sizes: 9 9 9", "sizes:=9 9 9", "spacings: 1 1 1", "kinds: list domain domain", "byte skip: -1", "line skip: 1"),
    *("ElementDataFile = a.raw", "no separator", "=", ":", ""),
    *("data file: a.raw", "data file: /etc/passwd", "data file: LIST", "datafile: a%03d.raw 1 3 1", "endian: big"),
    *("space: RAS", "space dimension: 4", "space units: \"m\" \"m\" \"m\"", "axis mins: 1 2 3"),
)  # fmt: skip


@cache
def originals() -> tuple[tuple[str, bytes, bytes], ...]:
    """Return for each file: its suffix, its bytes, and those of its data file `a.raw`."""
    voxels = (np.arange(5 * 6 * 7) % 97).astype(np.int16).reshape(5, 6, 7)
    angle = 0.3
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]] * np.array(
        [0.7, 0.8, 2.5]
    )
    affine[:3, 3] = -30.25, 41.5, 5.125
    files: list[tuple[str, bytes, bytes]] = []
    for image_class, order, dtype in (
        (nib.Nifti1Image, "<", "i2"),
        (nib.Nifti1Image, ">", "f4"),
        (nib.Nifti2Image, "<", "u1"),
    ):
        image = image_class(voxels.astype(dtype), affine, image_class.header_class(endianness=order))
        image.set_data_dtype(dtype)
        image.header.set_qform(affine, 1)
        image.header.set_xyzt_units("mm")
        files += [(".nii", image.to_bytes(), b""), (".nii.gz", gzip.compress(image.to_bytes(), mtime=0), b"")]
    mgh = nib.MGHImage(voxels.astype(np.float32), affine).to_bytes()
    files += [(".mgh", mgh, b""), (".mgz", gzip.compress(mgh, mtime=0), b"")]
    stored = voxels.tobytes(order="F")
    size = f"CompressedDataSize = {len(zlib.compress(stored))}\n"
    meta = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = {}\n{}"
        "TransformMatrix = 0.8 0.6 0 -0.6 0.8 0 0 0 1\nOffset = -30.25 41.5 5.125\nCenterOfRotation = 0 0 0\n"
        "AnatomicalOrientation = RAI\nElementSpacing = 0.7 0.8 2.5\nDimSize = 5 6 7\nElementType = MET_SHORT\n"
        "ElementDataFile = {}\n"
    )
    nrrd = (
        "NRRD0004\n# a comment\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 6 7\n"
        "space directions: (0.56,0.42,0) (-0.48,0.64,0) (0,0,2.5)\nkinds: domain domain domain\nendian: little\n"
        "encoding: {}\nspace origin: (-30.25,41.5,5.125)\n{}"
    )
    files += [
        (".mha", meta.format("False", "", "LOCAL").encode() + stored, b""),
        (".mha", meta.format("True", size, "LOCAL").encode() + zlib.compress(stored), b""),
        (".mhd", meta.format("False", "", "a.raw").encode(), stored),
        (".mhd", meta.format("True", size, "a.raw").encode(), zlib.compress(stored)),
        (".nrrd", nrrd.format("raw", "\n").encode() + stored, b""),
        (".nrrd", nrrd.format("gzip", "\n").encode() + gzip.compress(stored, mtime=0), b""),
        (".nrrd", nrrd.format("raw", "data file: a.raw\n").encode(), stored),
        (".nrrd", nrrd.replace("space: left-posterior-superior\n", "").replace("space origin", "content")
         .replace("space directions: (0.56,0.42,0) (-0.48,0.64,0) (0,0,2.5)", "spacings: 0.7 0.8 2.5")
         .format("raw", "\n").encode() + stored, b""),
    ]  # fmt: skip
    return tuple(files)


def write_mutated(seed: int, folder: Path) -> Path:
    """Write the file of a seed, and perhaps its data file, into a folder, and return its path."""
    rng = random.Random(seed)
    suffix, content, data = rng.choice(originals())
    is_text = suffix in (".mha", ".mhd", ".nrrd")
    inside_gzip = suffix in (".nii.gz", ".mgz") and rng.random() < 0.7  # few changes of the stream survive its checksum
    if inside_gzip:
        content = gzip.decompress(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(_OF_TEXT if is_text and rng.random() < 0.7 else _OF_BYTES)
        content = change(rng, content)
    if inside_gzip:
        content = gzip.compress(content, mtime=0)
    if data:
        (folder / "a.raw").write_bytes(rng.choice(_OF_BYTES)(rng, data) if rng.random() < 0.2 else data)
    path = folder / f"mutated{suffix}"
    path.write_bytes(content)
    return path


def _flip_bits(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(min(rng.randint(1, 8), len(changed))):
        changed[_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _put_special(rng: random.Random, content: bytes) -> bytes:
    order, kind = rng.choice("<>"), rng.choice("bhiqfd")
    if kind in "fd":
        value = rng.choice(_SPECIAL_FLOATS)
        number = struct.pack(order + kind, value if kind == "d" or abs(value) != 1e300 else float("inf"))
    else:
        bits = 8 * struct.calcsize(kind)
        number = (rng.choice(_SPECIAL) % 2**bits).to_bytes(bits // 8, "little" if order == "<" else "big")
    start = _place(rng, content) // len(number) * len(number)  # fields are aligned
    return content[:start] + number + content[start + len(number) :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randint(0, len(content))] if rng.random() < 0.5 else content[: -rng.randint(1, 8)]


def _insert(rng: random.Random, content: bytes) -> bytes:
    start = _place(rng, content)
    return content[:start] + rng.randbytes(rng.choice((1, 2, 16, 1000))) + content[start:]


def _delete(rng: random.Random, content: bytes) -> bytes:
    start = _place(rng, content)
    return content[:start] + content[start + rng.choice((1, 2, 16, 100)) :]


def _duplicate(rng: random.Random, content: bytes) -> bytes:
    start, end = sorted((_place(rng, content), _place(rng, content)))
    return content[:end] + content[start:end] + content[end:]


def _splice(rng: random.Random, content: bytes) -> bytes:
    other = rng.choice(originals())[1]
    place = _place(rng, content)
    return content[:place] + other[place if rng.random() < 0.5 else _place(rng, other) :]


def _place(rng: random.Random, content: bytes) -> int:
    """Return a byte of a file, in most cases one of its header."""
    return rng.randrange(max(1, min(len(content), _HEADER) if rng.random() < 0.8 else len(content)))


def _of_lines(change: Callable[[random.Random, list[str]], object]) -> Callable[[random.Random, bytes], bytes]:
    """Return a change of a file, given one of the lines of its header of text."""

    def changed(rng: random.Random, content: bytes) -> bytes:
        text = content.decode("latin-1")
        mark = "ElementDataFile" if "ElementDataFile" in text else "\n\n"
        end = text.find("\n", text.find(mark) + (mark == "\n\n")) + 1 or len(text)
        lines = text[:end].splitlines(keepends=True) or [""]
        change(rng, lines)
        return "".join(lines).encode("utf-8" if not text.isascii() else "latin-1", "replace") + content[end:]

    return changed


def _duplicate_line(rng: random.Random, lines: list[str]) -> None:
    lines.insert(rng.randint(0, len(lines)), rng.choice(lines))


def _swap_lines(rng: random.Random, lines: list[str]) -> None:
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


def _delete_line(rng: random.Random, lines: list[str]) -> None:
    del lines[rng.randrange(len(lines))]


def _insert_line(rng: random.Random, lines: list[str]) -> None:
    lines.insert(rng.randint(0, len(lines)), rng.choice(_SPECIAL_LINES) + "\n")


def _change_word(rng: random.Random, lines: list[str]) -> None:
    row = rng.randrange(len(lines))
    words = lines[row].split(" ")
    words[rng.randrange(len(words))] = rng.choice(_SPECIAL_WORDS)
    lines[row] = " ".join(words).rstrip("\n") + "\n"


def _change_value(rng: random.Random, lines: list[str]) -> None:
    one, other = rng.randrange(len(lines)), rng.choice(lines)
    separator = "=" if "=" in other else ":"
    lines[one] = lines[one].partition(separator)[0] + separator + other.partition(separator)[2]


def _change_spacing(rng: random.Random, lines: list[str]) -> None:
    old, new = rng.choice((("\n", "\r\n"), ("\n", "\r"), (" ", "\t"), (" ", ""), ("=", ":"), (": ", ":"), (" ", "  ")))
    rows = range(len(lines)) if rng.random() < 0.5 else [rng.randrange(len(lines))]
    for row in rows:
        lines[row] = lines[row].replace(old, new)


def _change_letters(rng: random.Random, lines: list[str]) -> None:
    row = rng.randrange(len(lines))
    lines[row] = rng.choice((str.upper, str.lower, str.title))(lines[row])


_OF_BYTES = (_flip_bits, _put_special, _put_special, _cut, _insert, _delete, _duplicate, _splice)
_OF_TEXT = tuple(
    map(
        _of_lines,
        (
            _duplicate_line,
            _swap_lines,
            _delete_line,
            _insert_line,
            _change_word,
            _change_word,
            _change_value,
            _change_spacing,
            _change_letters,
        ),
    )
)
