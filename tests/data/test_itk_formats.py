"""MetaImage and NRRD are read as ITK reads them, or refused with the reason."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from anymri.data.case import Case
from anymri.data.image import read_image
from anymri.errors import ImageError, InputWarning

VOXELS = np.arange(1, 121, dtype="<i2").reshape(4, 5, 6)
STORED = VOXELS.tobytes(order="F")
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")

META = {
    "ObjectType": "Image",
    "NDims": "3",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "4 5 6",
    "ElementSpacing": "1 2 3",
    "DimSize": "4 5 6",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "4 5 6",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(4,5,6)",
}


def meta(folder: Path, data: bytes = STORED, *, name: str = "a.mha", end: str = "\n", **fields: str | None) -> Path:
    """Write a MetaImage file with `fields` changed, or left out if None; the data file is the last one."""
    fields = {name: value for name, value in {**META, **fields}.items() if value is not None}
    last = fields.pop("ElementDataFile")
    lines = [f"{name} = {value}{end}" for name, value in {**fields, "ElementDataFile": last}.items()]
    (folder / name).write_bytes("".join(lines).encode() + data)
    return folder / name


def nrrd(folder: Path, data: bytes = STORED, *, end: str = "\n", magic: str = "NRRD0004", **fields: str | None) -> Path:
    """Write an NRRD file with `fields` (underscores for spaces) changed, or left out if None."""
    changed = {**NRRD, **{name.replace("_", " "): value for name, value in fields.items()}}
    lines = [f"{name}: {value}" for name, value in changed.items() if value is not None]
    (folder / "a.nrrd").write_bytes(end.join([magic, *lines, "", ""]).encode() + data)
    return folder / "a.nrrd"


def without_space(**fields: str | None) -> dict[str, str | None]:
    return {"space": None, "space_directions": None, "space_origin": None, **fields}


def by_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the array (x, y, z) and the affine to RAS+ as ITK reads them."""
    image = SimpleITK.ReadImage(str(path))
    axes = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    array = SimpleITK.GetArrayFromImage(image).T
    return array.reshape(image.GetSize()[:3], order="F"), np.diag([-1, -1, 1, 1]) @ affine


def check_as_itk(path: Path) -> None:
    image, (array, affine) = read_image(path), by_itk(path)
    np.testing.assert_array_equal(image.array, array.astype(np.float32))
    np.testing.assert_allclose(image.affine, affine, atol=1e-12)
    assert image.header is None


@pytest.mark.parametrize(("suffix", "compressed"), itertools.product((".mha", ".mhd", ".nrrd"), (False, True)))
def test_every_type_that_itk_writes_is_read_as_by_itk(tmp_path, suffix, compressed):
    for dtype in TYPES:
        image = SimpleITK.GetImageFromArray(VOXELS.astype(dtype).T)
        image.SetSpacing((0.7, 0.8, 2.5))
        image.SetOrigin((-30.25, 41.5, 5.125))
        image.SetDirection((0, -1, 0, 0.8, 0, -0.6, 0.6, 0, 0.8))
        path = tmp_path / f"{dtype}{suffix}"
        SimpleITK.WriteImage(image, str(path), compressed)
        check_as_itk(path)


META_FILES: dict[str, dict[str, str | None]] = {
    "big-endian": {"BinaryDataByteOrderMSB": "True"},
    "big-endian by its other name": {"ElementByteOrderMSB": "true"},
    "little-endian": {"BinaryData": "True", "BinaryDataByteOrderMSB": "False"},
    "origin by another name": {"Offset": None, "Origin": "7 8 9"},
    "position": {"Offset": None, "Position": "-7 8e1 .5"},
    "rotation": {"TransformMatrix": None, "Rotation": "0 1 0 -1 0 0 0 0 1"},
    "orientation": {"TransformMatrix": None, "Orientation": "0 1 0 0 0 1 1 0 0"},
    "oblique": {"TransformMatrix": "0.8 0.6 0 -0.6 0.8 0 0 0 1"},
    "sheared": {"TransformMatrix": "1 0 0 0.5 1 0 0 0 1"},
    "size of voxels only": {"ElementSpacing": None, "ElementSize": "1 2 4"},
    "size and spacing": {"ElementSize": "1 2 2.5"},
    "letters of orientation": {"AnatomicalOrientation": "RAI", "CenterOfRotation": "1 2 3"},
    "one channel": {"ElementNumberOfChannels": "1"},
    "other fields": {"Comment": "NDims = 93", "Name": "a", "ElementMin": "3", "Modality": "MET_MOD_MR"},
    "length 1 on a fourth axis": {
        "NDims": "4",
        "DimSize": "4 5 6 1",
        "Offset": "4 5 6 0",
        "ElementSpacing": "1 2 3 9",
        "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
    },
    "bytes before the voxels": {"HeaderSize": "-1"},
}


@pytest.mark.parametrize("kind", META_FILES)
def test_metaimage_is_read_as_by_itk(tmp_path, kind):
    check_as_itk(meta(tmp_path, **META_FILES[kind]))


@pytest.mark.parametrize("change", [("\n", "\r\n"), (" ", "\t"), (" = ", "="), ("=", ":"), ("\n", "\n\n  ")])
def test_metaimage_with_other_spacing_is_read_as_by_itk(tmp_path, change):
    path = meta(tmp_path, b"")
    header = path.read_bytes().replace(*(text.encode() for text in change)).rstrip(b" \r\n")
    path.write_bytes(header + b"\n" + STORED)
    check_as_itk(path)


def test_compressed_metaimage_is_read_to_its_size_or_its_end(tmp_path):
    data = zlib.compress(STORED)
    check_as_itk(meta(tmp_path, data + b"more", CompressedData="True", CompressedDataSize=str(len(data))))
    # ITK returns memory that was never written for such a file.
    without_size = read_image(meta(tmp_path, data, CompressedData="True"))
    np.testing.assert_array_equal(without_size.array, VOXELS)


NRRD_FILES: dict[str, dict[str, str | None]] = {
    "big-endian": {"endian": "big"},
    "RAS": {"space": "right-anterior-superior"},
    "RAS in letters": {"space": "RAS", "space_directions": "(1,0.5,0) (-0.5,1,0) (0,0,3)"},
    "LAS": {"space": "left-anterior-superior", "space_origin": "(4.5,-5,6e1)"},
    "LPS in letters": {"space": "lps"},
    "kinds": {"kinds": "domain space ???", "measurement_frame": "(1,0,0) (0,-1,0) (0,0,1)"},
    "origin at zero": {"space_origin": None},
    "spaces in vectors": {"space_directions": "( 1 , 0,0)(0,2,0)  (0,0,3 )"},
    "other fields": {"content": "NDims", "labels": '"x" "y" "z"', "space_units": '"mm" "mm" "mm"', "number": "120"},
    "comment and key": {"# sizes": "9 9 9", "sizes:=9 9": "9"},
    "capitals": {"type": "SHORT", "encoding": "RAW"},
    "bytes before the voxels": {"byte_skip": "-1"},
    "one component": {
        "dimension": "4",
        "sizes": "1 4 5 6",
        "kinds": "list domain domain domain",
        "space_directions": "none (1,0,0) (0,2,0) (0,0,3)",
    },
}
NRRD_WITHOUT_DIRECTIONS: dict[str, dict[str, str | None]] = {
    "scanner-xyz": {"space": "scanner-xyz"},
    "3D-right-handed": {"space": "3D-right-handed"},
    "3D-left-handed": {"space": "3D-left-handed"},
    "dimension of the space": {"space": None, "space_dimension": None},
    "spacings": without_space(spacings="1 2 3", units='"mm" "mm" "mm"'),
    "spacing downwards": without_space(spacings="1 -2 3"),
    "axis mins": without_space(spacings="1 2 3", axis_mins="4 5 6"),
    "axis mins of nodes": without_space(spacings="1 2 3", axis_mins="4 5 6", centerings="cell node ???"),
    "fourth axis": without_space(dimension="4", sizes="4 5 6 1", spacings="1 2 3 nan"),
}


@pytest.mark.parametrize("kind", NRRD_FILES)
def test_nrrd_is_read_as_by_itk(tmp_path, kind):
    check_as_itk(nrrd(tmp_path, **NRRD_FILES[kind]))


@pytest.mark.parametrize("kind", NRRD_WITHOUT_DIRECTIONS)
def test_nrrd_without_anatomical_directions_is_read_as_by_itk_with_a_note(tmp_path, kind):
    path = nrrd(tmp_path, **NRRD_WITHOUT_DIRECTIONS[kind])
    if kind == "dimension of the space":
        path.write_bytes(path.read_bytes().replace(b"dimension: 3\n", b"dimension: 3\nspace dimension: 3\n"))
    with pytest.warns(InputWarning, match="left and right are not known"):
        check_as_itk(path)


@pytest.mark.parametrize("magic", ["NRRD0001", "NRRD0005"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_nrrd_of_every_version_and_line_end_is_read_as_by_itk(tmp_path, magic, end):
    check_as_itk(nrrd(tmp_path, magic=magic, end=end))


def test_compressed_nrrd_is_read_as_by_itk(tmp_path):
    check_as_itk(nrrd(tmp_path, gzip.compress(STORED), encoding="gzip"))
    check_as_itk(nrrd(tmp_path, gzip.compress(STORED[:9]) + gzip.compress(STORED[9:]), encoding="gz"))


@pytest.mark.parametrize("name", ["a.raw", "./a.raw", "ä b.raw"])
def test_voxels_in_a_file_in_the_same_folder_are_read_as_by_itk(tmp_path, name):
    (tmp_path / "stored").write_bytes(STORED)
    (tmp_path / name).symlink_to("stored")  # as in data sets of git-annex
    check_as_itk(meta(tmp_path, b"", name="a.mhd", ElementDataFile=name))
    check_as_itk(nrrd(tmp_path, b"", data_file=name))
    (tmp_path / "stored").write_bytes(b"header" + STORED)
    check_as_itk(meta(tmp_path, b"", name="a.mhd", ElementDataFile=name, HeaderSize="6"))
    check_as_itk(nrrd(tmp_path, b"", data_file=name, byte_skip="6"))


def test_data_files_belong_to_the_files_of_a_case(tmp_path):
    for name in ("t1.raw", "t2.raw"):
        (tmp_path / name).write_bytes(STORED)
    scans = {
        "T1": meta(tmp_path, b"", name="t1.mhd", ElementDataFile="t1.raw"),
        "T2": nrrd(tmp_path, b"", data_file="t2.raw"),
        "FLAIR": meta(tmp_path, name="flair.mha"),
    }
    voxels = {"T1 voxels": tmp_path / "t1.raw", "T2 voxels": tmp_path / "t2.raw"}
    assert Case("a", scans).files() == scans | voxels  # their hashes are in keys of the cache and in provenance


def test_note_is_an_error_where_warnings_are_errors(tmp_path):
    with pytest.raises(InputWarning, match="left and right are not known"):  # as with --strict
        read_image(nrrd(tmp_path, **without_space(spacings="1 2 3")))


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_file_without_spacing_is_read_as_by_itk_with_a_note(tmp_path, name):
    path = meta(tmp_path, ElementSpacing=None) if name == "a.mha" else nrrd(tmp_path, **without_space())
    with pytest.warns(InputWarning, match="does not give its spacing, which is taken to be 1 mm"):
        check_as_itk(path)


REFUSED_META: dict[str, tuple[str, dict[str, str | None]]] = {
    "field in other letters": (
        "'elementspacing' for ElementSpacing",
        {"ElementSpacing": None, "elementspacing": "1 2 3"},
    ),
    "no axes": ("nothing as NDims", {"NDims": None}),
    "93 axes": ("93 is not a number of axes", {"NDims": "93"}),
    "negative axes": ("-3 is not a number of axes", {"NDims": "-3"}),
    "other number of sizes": ("not 3 values", {"DimSize": "4 5"}),
    "fractional size": ("not integers", {"DimSize": "4.0 5 6"}),
    "size zero": ("the size 4x0x6", {"DimSize": "4 0 6"}),
    "too large": ("it has 240 bytes of voxels, the size 4x5x60 of its header 2400", {"DimSize": "4 5 60"}),
    "too small": ("it has 240 bytes of voxels, the size 4x5x5 of its header 200", {"DimSize": "4 5 5"}),
    "2-D": ("is 2-D", {"NDims": "2", "DimSize": "4 30"}),
    "two volumes": ("2 volumes", {"NDims": "4", "DimSize": "4 5 3 2"}),
    "channels": ("colour or vector", {"ElementNumberOfChannels": "3"}),
    "arrays": ("colour or vector", {"ElementType": "MET_SHORT_ARRAY"}),
    "text as type": ("'MET_STRING' as ElementType", {"ElementType": "MET_STRING"}),
    "scene": ("'Scene' as ObjectType", {"ObjectType": "Scene"}),
    "text as voxels": ("'False' as BinaryData", {"BinaryData": "False"}),
    "centimetres": ("'cm' as DistanceUnits", {"DistanceUnits": "cm"}),
    "scale": ("'2' as ElementToIntensityFunctionSlope", {"ElementToIntensityFunctionSlope": "2"}),
    "text as spacing": ("'1 2 a' as ElementSpacing", {"ElementSpacing": "1 2 a"}),
    "NaN as spacing": ("cannot be used", {"ElementSpacing": "1 2 nan"}),
    "infinite spacing": ("cannot be used", {"ElementSpacing": "1 2 1e999"}),
    "zero spacing": ("spacing is 0 mm", {"ElementSpacing": "1 2 0"}),
    "axes in a plane": ("in one plane", {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}),
    "two origins": ("different values as Offset and Origin", {"Origin": "7 8 9"}),
    "two byte orders": ("'true' and 'false'", {"BinaryDataByteOrderMSB": "True", "ElementByteOrderMSB": "False"}),
    "neither true nor false": ("'maybe'", {"CompressedData": "maybe"}),
    "voxels in the header": ("'20' as HeaderSize", {"HeaderSize": "20"}),
    "not compressed": ("checksum or format", {"CompressedData": "True"}),
    "size of data beyond the file": ("240 bytes of 999", {"CompressedData": "True", "CompressedDataSize": "999"}),
}


@pytest.mark.parametrize("kind", REFUSED_META)
def test_metaimage_without_one_plain_volume_is_refused(tmp_path, kind):
    words, fields = REFUSED_META[kind]
    check_refused(meta(tmp_path, **fields), words)


REFUSED_NRRD: dict[str, tuple[str, dict[str, str | None]]] = {
    "no sizes": ("nothing as sizes", {"sizes": None}),
    "17 axes": ("17 is not a number of axes", {"dimension": "17"}),
    "unknown field": ("'foo: bar'", {"foo": "bar"}),
    "field twice": ("sizes twice", {"SIZES": "9 9 9"}),
    "too large": ("it has 240 bytes of voxels, the size 4x5x60 of its header 2400", {"sizes": "4 5 60"}),
    "negative size": ("the size 4x-5x6", {"sizes": "4 -5 6"}),
    "colours": ("colour", {"kinds": "domain domain RGB-color"}),
    "vectors": ("vector", {"kinds": "vector domain domain"}),
    "list": ("2 volumes", {
        "dimension": "4", "sizes": "2 4 5 3", "kinds": "list domain domain domain",
        "space_directions": "none (1,0,0) (0,2,0) (0,0,3)",
    }),
    "blocks": ("vector", {"type": "block"}),
    "unknown type": ("'long' as type", {"type": "long"}),
    "no byte order": ("nothing as endian", {"endian": None}),
    "text as voxels": ("'ascii' as encoding", {"encoding": "ascii"}),
    "bzip2": ("'bzip2' as encoding", {"encoding": "bzip2"}),
    "not compressed": ("checksum or format", {"encoding": "gzip"}),
    "time": ("'right-anterior-superior-time' as space", {"space": "right-anterior-superior-time"}),
    "unknown space": ("'talairach' as space", {"space": "talairach"}),
    "microns": ("'um' in spaceunits", {"space_units": '"um" "um" "um"'}),
    "space without directions": ("a space without directions", {"space_directions": None}),
    "spacings and a space": ("spacings besides a space", {"spacings": "1 2 3"}),
    "position without spacing": ("without spacings", without_space(axis_mins="1 2 3", axis_maxs="4 5 6")),
    "two directions": ("directions for 2 axes", {"space_directions": "(1,0,0) none (0,0,3)"}),
    "two numbers": ("not three numbers", {"space_directions": "(1,0) (0,2,0) (0,0,3)"}),
    "NaN": ("NaN or infinite", {"space_origin": "(1,nan,3)"}),
    "lines before the voxels": ("1 as lineskip", {"line_skip": "1"}),
    "bytes beyond the file": ("it has 0 bytes", {"byte_skip": "999999"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED_NRRD)
def test_nrrd_without_one_plain_volume_is_refused(tmp_path, kind):
    words, fields = REFUSED_NRRD[kind]
    check_refused(nrrd(tmp_path, **fields), words)


def check_refused(path: Path, words: str) -> None:
    with pytest.raises(ImageError) as refused:
        read_image(path)
    assert words in refused.value.what
    assert str(path) in refused.value.what
    assert refused.value.fix.endswith(".")


def test_data_that_inflate_to_another_size_are_refused(tmp_path):
    for data in (STORED[:-2], STORED + b"12"):
        check_refused(meta(tmp_path, zlib.compress(data), CompressedData="True"), "not the 240 bytes")
        check_refused(nrrd(tmp_path, gzip.compress(data), encoding="gzip"), "not the 240 bytes")
    changed = bytearray(gzip.compress(STORED))
    changed[-7] ^= 1
    check_refused(nrrd(tmp_path, bytes(changed), encoding="gzip"), "checksum")
    check_refused(nrrd(tmp_path, gzip.compress(bytes(10)), encoding="gzip", sizes="500 500 500"), "cannot be the")


OUTSIDE = {
    "not a plain file name": ["/etc/passwd", "../a.raw", "b/a.raw", "b\\a.raw", "C:a.raw", "..", "."],
    "several files": ["LIST", "LIST 2", "a%03d.raw 1 6 1", "%s%n"],
    "not a data file in its folder": ["missing.raw", "pipe", "folder", "x" * 300],
}


@pytest.mark.parametrize(("words", "name"), [(words, name) for words, names in OUTSIDE.items() for name in names])
def test_voxels_anywhere_else_are_not_opened(tmp_path, words, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    check_refused(meta(tmp_path, b"", name="a.mhd", ElementDataFile=name), words)
    check_refused(nrrd(tmp_path, b"", data_file=name), words)


def test_a_header_is_not_its_own_data_file(tmp_path):
    check_refused(meta(tmp_path, name="a.mhd", ElementDataFile="a.mhd", HeaderSize="-1"), "not a data file")
    check_refused(nrrd(tmp_path, data_file="a.nrrd", byte_skip="-1"), "not a data file")


def test_a_header_without_end_is_read_to_its_limit_only(tmp_path):
    (tmp_path / "a.mha").write_bytes(b"Comment = " + b"x" * 2**21)
    check_refused(tmp_path / "a.mha", "does not end within 262144 bytes")
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\n# " + b"x" * 2**21)
    check_refused(tmp_path / "a.nrrd", "does not end within 262144 bytes")


def test_text_of_a_header_is_shown_short_and_without_control_characters(tmp_path):
    with pytest.raises(ImageError) as refused:
        read_image(meta(tmp_path, ElementType="\x1b[31m" + "x" * 1000))
    assert "'\\x1b[31mxxx" in refused.value.what
    assert len(refused.value.what) < 150 + len(str(tmp_path))
