"""Headers of NIfTI and MGH files: what is read as by other programs, what is noted, and what is refused."""

from __future__ import annotations

import gzip
import os
import re
import socket
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from anymri.data.formats.position import differ
from anymri.data.image import read_image, read_scan, write_image, write_like
from anymri.errors import ImageError, InputWarning

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 20
LPS = np.array([[-0.7, 0, 0, 30.3], [0, -0.8, 0, 41.7], [0, 0, 2.5, 5.1], [0, 0, 0, 1]])
TURN = np.diag([-1.0, -1.0, 1.0, 1.0])
MIRRORED = np.diag([-1.0, 1.0, 1.0, 1.0]) @ LPS
NOWHERE = {"srow_x": 0, "srow_y": 0, "srow_z": 0}


def content(
    *, qform: np.ndarray = LPS, codes: tuple[int, int] = (1, 1), image_class: Any = nib.Nifti1Image, **fields: Any
) -> bytes:
    """Return a NIfTI file with `codes` of sform and qform; `fields` of its header get any value, valid or not."""
    image = image_class(VOXELS, LPS)
    image.set_sform(LPS, codes[0])
    image.set_qform(qform, codes[1])
    whole, size = image.to_bytes(), image.header.sizeof_hdr
    header = image_class.header_class(whole[:size], check=False)
    for name, value in fields.items():
        field, _, index = name.partition("__")
        header[field][int(index) if index else ...] = value
    return bytes(header.binaryblock + whole[size:])


def written(path: Path, data: bytes) -> Path:
    """Write bytes, compressed if the name says so."""
    path.write_bytes(gzip.compress(data) if path.suffix in (".gz", ".mgz") else data)
    return path


def itk_affine(path: Path) -> np.ndarray:
    """Return the affine to RAS+ mm by ITK."""
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return TURN @ affine


def refused(path: Path) -> str:
    """Return the error of a file without its path."""
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(path) in error.value.what
    assert error.value.fix.endswith(".")
    return error.value.what.replace(str(path), "FILE")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("image_class", "end"), [(nib.Nifti1Image, 352), (nib.Nifti2Image, 544)])
@pytest.mark.parametrize("before_end", [352, 351, 4, 1, 0])
def test_offset_inside_the_header_is_raised_to_its_end(tmp_path, name, image_class, end, before_end):
    offset = max(end - before_end, 0)
    path = written(tmp_path / name, content(image_class=image_class, vox_offset=offset))
    np.testing.assert_array_equal(read_image(path).array, VOXELS)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_offset_inside_the_header_is_refused_where_the_voxels_could_be_elsewhere(tmp_path, name):
    data = content(vox_offset=0)
    for other in (data + b"12", data[:348] + data[352:], data[:348] + b"\1\0\0\0" + data[352:]):
        assert "0 as the place where its voxels begin, vox_offset" in refused(written(tmp_path / name, other))


@pytest.mark.parametrize("offset", [-1, 352.5, np.nan, np.inf, 1e9])
def test_offset_that_cannot_be_is_refused_by_its_name(tmp_path, offset):
    assert "vox_offset" in refused(written(tmp_path / "a.nii.gz", content(vox_offset=offset)))


def test_extensions_before_the_voxels_are_skipped(tmp_path):
    image = nib.Nifti1Image(VOXELS, LPS)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a comment" * 9))
    np.testing.assert_array_equal(read_image(written(tmp_path / "a.nii.gz", image.to_bytes())).array, VOXELS)


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (0, 0)])
@pytest.mark.parametrize(
    ("unit", "code", "mm"), [("metres", 1, 1000.0), ("microns", 3, 0.001), ("?", 7, 1), ("", 0, 1)]
)
@pytest.mark.filterwarnings("ignore:.*no sform and no qform")
def test_units_are_converted_to_mm_as_by_itk_and_kept_in_written_maps(tmp_path, codes, unit, code, mm):
    affine = LPS.copy()
    affine[:3] /= mm
    image = nib.Nifti1Image(VOXELS, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header["xyzt_units"] = code | 8
    scan = read_image(written(tmp_path / "scan.nii", image.to_bytes()))
    if codes == (0, 0):  # ITK and nibabel assume other positions
        assert scan.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    else:
        np.testing.assert_allclose(scan.affine, itk_affine(scan.path), atol=1e-4)
        np.testing.assert_allclose(scan.affine, LPS, atol=1e-4)
    assert scan.voxel_volume_ml == pytest.approx(0.7 * 0.8 * 2.5 / 1000)

    write_like(tmp_path / "map.nii.gz", scan.array, scan)
    np.testing.assert_array_equal(read_image(tmp_path / "map.nii.gz").affine, scan.affine)
    np.testing.assert_array_equal(itk_affine(tmp_path / "map.nii.gz"), itk_affine(scan.path))
    np.testing.assert_array_equal(nib.load(tmp_path / "map.nii.gz").affine, nib.load(scan.path).affine)
    assert nib.load(tmp_path / "map.nii.gz").header["xyzt_units"] == code | 8


@pytest.mark.parametrize(("code", "unit"), [(1, "metres"), (3, "microns")])
def test_wrong_unit_is_named_where_it_makes_the_spacing_impossible(tmp_path, code, unit):
    assert f"in {unit} by its xyzt_units" in refused(written(tmp_path / "a.nii", content(xyzt_units=code)))


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 2)])
def test_qform_that_differs_from_the_sform_is_noted_with_the_distance(tmp_path, codes):
    path = written(tmp_path / "a.nii.gz", content(qform=MIRRORED, codes=codes))
    with pytest.warns(InputWarning, match=r"a\.nii\.gz gives two positions.*qform.*60\.6 mm.*sform, which is used"):
        image = read_image(path)
    np.testing.assert_array_equal(image.affine, nib.load(path).affine)
    with pytest.raises(InputWarning):  # notes are errors with --strict, and here
        read_image(path)


@pytest.mark.parametrize(("shift", "is_noted"), [(5e-4, False), (2e-3, True)])
@pytest.mark.parametrize("place", [(0, 3), (0, 0), (1, 2)])
def test_affines_differ_from_one_in_a_thousand(shift, is_noted, place):
    other = LPS.copy()
    other[place] += shift * (LPS[place[1], place[1]] if place[1] < 3 else 1)
    assert differ(other, LPS) == is_noted


def test_spacing_that_differs_from_the_sform_is_noted_because_itk_takes_it(tmp_path):
    path = written(tmp_path / "a.nii", content(codes=(1, 0), pixdim__3=5))
    with pytest.warns(InputWarning, match=r"by its pixdim are up to 12\.5 mm"):
        read_image(path)
    assert np.linalg.norm(itk_affine(path)[:3, 2]) == pytest.approx(5)


def test_real_scans_give_no_note(real_data):
    noted = {}
    for path in sorted(real_data.rglob("*.nii*")):
        header = nib.load(path).header
        if len(header.get_data_shape()) == 3 and header.get_data_dtype().kind in "iuf":
            with warnings.catch_warnings(record=True) as notes:
                warnings.simplefilter("always")
                _position_of(path)
            if notes:
                noted[path.name] = str(notes[0].message)
    assert set(noted) == {"minimal.nii.gz"}
    assert "no sform and no qform" in noted["minimal.nii.gz"]


def _position_of(path: Path) -> None:
    from anymri.data.formats import nifti, position
    from anymri.data.formats.content import opened

    with opened(path) as start:
        position.affine_mm(path, nifti._header(start))


@pytest.mark.parametrize("excess", [1e-7, 6e-7, 1e-5, 9e-4])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_quaternion_that_rounding_made_too_long_is_a_half_turn(tmp_path, excess, image_class):
    data = content(codes=(0, 1), image_class=image_class, quatern_d=np.sqrt(1 + excess))
    scan = read_image(written(tmp_path / "a.nii", data))
    np.testing.assert_allclose(scan.affine, LPS, atol=1e-5)
    write_like(tmp_path / "map.nii.gz", scan.array, scan)
    for affine in (read_image(tmp_path / "map.nii.gz").affine, nib.load(tmp_path / "map.nii.gz").affine):
        np.testing.assert_allclose(affine, LPS, atol=1e-5)
    if image_class is nib.Nifti1Image:  # the ITK of SimpleITK does not read NIfTI-2
        np.testing.assert_allclose(itk_affine(scan.path), LPS, atol=1e-5)
        np.testing.assert_allclose(itk_affine(tmp_path / "map.nii.gz"), LPS, atol=1e-5)


@pytest.mark.parametrize("value", [1.1, np.nan, np.inf])
def test_quaternion_that_cannot_be_is_refused_or_the_sform_is_used(tmp_path, value):
    assert "quaternion is" in refused(written(tmp_path / "a.nii", content(codes=(0, 1), quatern_d=value)))
    with pytest.warns(InputWarning, match=r"qform of .* cannot be used, because .*quaternion.*; its sform is used"):
        scan = read_image(written(tmp_path / "b.nii", content(quatern_d=value)))
    np.testing.assert_allclose(scan.affine, LPS, atol=1e-5)
    write_like(tmp_path / "map.nii", scan.array, scan)
    np.testing.assert_allclose(itk_affine(tmp_path / "map.nii"), LPS, atol=1e-5)


@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize(
    "fields",
    [NOWHERE, {"srow_x__0": np.nan}, {"srow_x": [0, -0.8, 0, 1]}, {"srow_z__2": 1e6}, {"srow_y__3": -1e5}],
    ids=["zeros", "NaN", "flat", "huge", "far"],
)
def test_sform_that_cannot_be_gives_way_to_the_qform(tmp_path, code, fields):
    with pytest.warns(InputWarning, match=r"sform of .* cannot be used, because .*; its qform is used"):
        scan = read_image(written(tmp_path / "a.nii", content(codes=(code, 1), **fields)))
    np.testing.assert_allclose(scan.affine, LPS, atol=1e-5)
    write_like(tmp_path / "map.nii.gz", scan.array, scan)
    np.testing.assert_allclose(nib.load(tmp_path / "map.nii.gz").affine, LPS, atol=1e-5)
    assert "sform" in refused(written(tmp_path / "b.nii", content(codes=(code, 0), **fields)))
    both = refused(written(tmp_path / "c.nii", content(codes=(code, 1), quatern_d=7, **fields)))
    assert re.search("sform: .*; qform: .*quaternion", both)


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (2, 0)])
@pytest.mark.parametrize("spacing", [0, -0.7, np.nan])
def test_impossible_spacing_is_noted_and_replaced_by_that_of_the_sform_in_written_maps(tmp_path, codes, spacing):
    with pytest.warns(InputWarning, match=f"the spacing is {spacing:g}, 0.8, 2.5; its sform is used"):
        scan = read_image(written(tmp_path / "a.nii", content(codes=codes, pixdim__1=spacing)))
    np.testing.assert_allclose(scan.affine, LPS, atol=1e-5)
    write_like(tmp_path / "map.nii", scan.array, scan)
    np.testing.assert_allclose(itk_affine(tmp_path / "map.nii"), LPS, atol=1e-5)


def test_position_without_sform_and_qform_is_that_of_nibabel_with_a_note(tmp_path):
    path = written(tmp_path / "a.nii", content(codes=(0, 0)))
    with pytest.warns(InputWarning, match="no sform and no qform, so that left and right are not known"):
        image = read_image(path)
    np.testing.assert_array_equal(image.affine, nib.load(path).affine)
    assert image.spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_sheared_volume_is_written_without_a_qform(tmp_path):
    sheared = LPS.copy()
    sheared[1, 2] = 0.5
    write_image(tmp_path / "a.nii.gz", VOXELS, sheared)
    np.testing.assert_allclose(read_image(tmp_path / "a.nii.gz").affine, sheared, atol=1e-5)


@pytest.mark.parametrize(
    "fields", [{"dim__0": axes, "dim__4": 0} for axes in (4, 5)] + [{"dim": [7, 4, 5, 6, 0, 0, 0, 0]}]
)
def test_further_axes_of_size_zero_are_no_axes(tmp_path, fields):
    scan = read_image(written(tmp_path / "a.nii", content(**fields)))
    np.testing.assert_array_equal(scan.array, VOXELS)
    write_like(tmp_path / "map.nii", scan.array, scan)
    np.testing.assert_array_equal(np.squeeze(nib.load(tmp_path / "map.nii").get_fdata()), VOXELS)


@pytest.mark.parametrize(
    ("words", "fields"),
    {
        "dim[0], the number of axes": {"dim__0": 0},
        "the number of axes, is": {"dim__0": 8},
        "not in 1 to 7": {"dim__0": -3},
        "gives the size 4x5x6x-1": {"dim__0": 4, "dim__4": -1},
        "gives the size 4x5x0": {"dim__3": 0},
        "has 3 volumes": {"dim__0": 5, "dim__4": 0, "dim__5": 3},
        "the size 2049x5x6, larger than any MRI": {"dim__1": 2049},
        "2000x2000x2000": {"dim": [3, 2000, 2000, 2000, 1, 1, 1, 1]},
        "too few for the 250000352 that": {"dim": [3, 500, 500, 500, 1, 1, 1, 1]},
        "NaN or infinite": {"codes": (0, 1), "qoffset_x": np.nan},
        "qform: the spacing is 51 mm": {"codes": (0, 1), "pixdim__1": 51},
        "sform: the spacing is 0.005 mm": {"codes": (1, 0), "srow_x": [-0.005, 0, 0, 0]},
        "origin is at 20000, 41.7, 5.1 mm": {"codes": (1, 0), "srow_x__3": 20000},
        "pixdim: the spacing is -1, 0.8, 2.5": {"codes": (0, 0), "pixdim__1": -1},
        "handedness, is -2": {"codes": (0, 1), "pixdim__0": -2},
        "values up to 9.9e+10": {"scl_slope": 1e9, "scl_inter": 0},
        "scl_inter, is nan": {"scl_slope": 1, "scl_inter": np.nan},
        "has 5 as datatype": {"datatype": 5},
        "has 1 as datatype": {"datatype": 1},
        "not that of a NIfTI file": {"magic": b"xyz"},
        "an Analyze 7.5 file": {"magic": b""},
        "header of a pair": {"magic": b"ni1", "vox_offset": 0},
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_header_that_cannot_be_is_refused_by_name_and_value(tmp_path, words, fields):
    assert words in refused(written(tmp_path / "a.nii", content(**fields)))


@pytest.mark.parametrize("slope", [0, np.nan, np.inf])
def test_slope_that_is_not_set_scales_nothing(tmp_path, slope):
    np.testing.assert_array_equal(
        read_image(written(tmp_path / "a.nii", content(scl_slope=slope, scl_inter=5))).array, VOXELS
    )


def test_scale_factors_take_no_memory_of_several_volumes(tmp_path):
    stored = np.arange(100 * 100 * 200).astype(np.int16).reshape(100, 100, 200)
    image = nib.Nifti1Image(stored, np.diag([-1, -1, 1, 1]))
    image.header.set_slope_inter(0.37, 3.1)
    nib.save(image, tmp_path / "a.nii")
    tracemalloc.start()
    array = read_image(tmp_path / "a.nii").array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(array, nib.load(tmp_path / "a.nii").get_fdata(), rtol=1e-6, atol=1e-3)
    assert peak < 2 * array.nbytes


def test_length_of_the_header_is_not_needed(tmp_path):
    np.testing.assert_array_equal(read_image(written(tmp_path / "a.nii", content(sizeof_hdr=540))).array, VOXELS)


def test_volume_with_the_magic_of_a_pair_is_read_as_by_itk_and_nibabel(tmp_path):
    path = written(tmp_path / "a.nii", content(magic=b"ni1"))
    np.testing.assert_array_equal(read_image(path).array, VOXELS)
    np.testing.assert_array_equal(nib.load(path).get_fdata(), VOXELS)


@pytest.mark.parametrize(
    ("words", "data"),
    {
        "is a DICOM file": bytes(128) + b"DICM" + bytes(300),
        "is a PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(400),
        "is an NRRD file": b"NRRD0004\n" + b"#" * 400,
        "is a MetaImage file": b"ObjectType = Image\n" + b" " * 400,
        "is a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 400,
        "it is empty": b"",
        "its header is cut off": content()[:300],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_file_that_is_no_nifti_is_refused_by_what_it_is(tmp_path, words, data, name):
    (tmp_path / name).write_bytes(data)
    assert words in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("is compressed twice", gzip.compress),
        ("compressed data end too early", lambda data: data[:-20]),
        ("compressed data end too early", lambda data: data[:-3]),
        ("do not agree with their checksum", lambda data: data[:-8] + bytes(4) + data[-4:]),
        ("do not agree with their checksum", lambda data: data[:-4] + bytes(4)),
        ("do not agree with their checksum", lambda data: data + b"garbage" * 9),
    ],
)
def test_damaged_compression_is_refused(tmp_path, words, change: Callable[[bytes], bytes]):
    (tmp_path / "a.nii.gz").write_bytes(change(gzip.compress(content())))
    assert words in refused(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(content()[:300]) + gzip.compress(content()[300:]),
        gzip.compress(content()) + bytes(100),
        gzip.compress(content() + b"padding"),
    ],
    ids=["two members", "zeros after", "padding inside"],
)
def test_members_and_padding_of_gzip_are_read(tmp_path, data):
    (tmp_path / "a.nii.gz").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz").array, VOXELS)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_data_beyond_the_size_of_the_header_is_refused(tmp_path, name):
    assert "more data than the 592 bytes" in refused(written(tmp_path / name, content() + bytes(2**20 + 1)))


def test_scan_that_inflates_beyond_its_header_takes_no_memory(tmp_path):
    member = gzip.compress(bytes(2**24), 9)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content()) + member * 200)  # 3 MB, 3 GB inflated
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content(dim=[3, 500, 500, 500, 1, 1, 1, 1])))
    tracemalloc.start()
    try:
        assert "has more data than" in refused(tmp_path / "a.nii.gz")
        assert "too few for the 250000352" in refused(tmp_path / "b.nii.gz")
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def special_files() -> dict[str, Callable[[Path], object]]:
    """Return: what a path leads to -> function that makes it."""
    return {
        "a pipe": os.mkfifo,
        "a device": lambda path: path.symlink_to("/dev/zero"),
        "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
        "a folder": Path.mkdir,
        "a link to gone.nii, which does not exist": lambda path: path.symlink_to("gone.nii"),
    }


@pytest.mark.parametrize("kind", special_files())
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mgz", ".nrrd", ".mha"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_only_regular_files_are_opened(tmp_path, monkeypatch, kind, suffix):
    monkeypatch.chdir(tmp_path)  # paths of sockets are short
    special = Path(f"x{suffix}")
    special_files()[kind](special)
    assert f"FILE is {kind}" in refused(special)
    if "link" not in kind:
        Path(f"link{suffix}").symlink_to(special)
        assert f"FILE is {kind}" in refused(Path(f"link{suffix}"))


def mgh(**fields: Any) -> bytes:
    """Return an MGH file; `fields` of its header get any value."""
    whole = nib.MGHImage(VOXELS.astype(np.float32), LPS).to_bytes()
    header = np.frombuffer(whole[:90], nib.freesurfer.mghformat.header_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + whole[90:]


@pytest.mark.parametrize(
    ("words", "data"),
    {
        "not that of an MGH file": mgh(version=2),
        "size -4x5x6x1": mgh(dims=[-4, 5, 6, 1]),
        "size 4x5x6x0": mgh(dims=[4, 5, 6, 0]),
        "2 volumes": mgh(dims=[4, 5, 6, 2]),
        "data type 7": mgh(type=7),
        "too few for the 500000284": mgh(dims=[500, 500, 500, 1]),
        "larger than any MRI": mgh(dims=[2**31 - 1, 2**31 - 1, 2**31 - 1, 1]),
        "spacing is 1000 mm": mgh(delta=[1000, 1, 1]),
        "NaN or infinite": mgh(Pxyz_c=np.nan),
        "header is cut off": mgh()[:200],
        "too few for the 764": mgh()[:700],
        "more data than": mgh() + bytes(2**21),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mgh_file_that_cannot_be_is_refused(tmp_path, words, data):
    (tmp_path / "a.mgh").write_bytes(data)
    assert words in refused(tmp_path / "a.mgh")


@pytest.mark.parametrize("flag", [0, -1])
def test_mgh_file_without_position_has_the_default_of_freesurfer_with_a_note(tmp_path, flag):
    with pytest.warns(InputWarning, match="goodRASFlag"):
        image = read_image(written(tmp_path / "a.mgz", mgh(goodRASFlag=flag, Mdc=0, delta=0)))
    assert image.orientation == "LIA"
    assert image.spacing_mm == (1, 1, 1)


def test_text_of_a_library_is_never_the_explanation(tmp_path, monkeypatch):
    from anymri.data.formats import nifti

    def fail(path: Path) -> None:
        raise KeyError("words of a library")

    monkeypatch.setattr(nifti, "read", fail)
    assert refused(written(tmp_path / "a.nii", content())) == "anymri cannot read FILE."


def test_slope_that_makes_all_voxels_equal_is_refused_as_a_scan(tmp_path):
    with pytest.raises(ImageError, match="in every voxel"):
        read_scan(written(tmp_path / "a.nii", content(scl_slope=1e-12, scl_inter=700)))
