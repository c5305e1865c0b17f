from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from anymri.data.image import Image, from_lps, read_image, read_scan, to_lps, write_image, write_like
from anymri.errors import AnymriError, ImageError, InputWarning, OutputError

ORIENTATIONS = ["".join(c) for p in permutations(("LR", "PA", "SI")) for c in product(*p)]
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 20


def oblique_affine() -> np.ndarray:
    angle = 0.2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return nib.affines.from_matvec(turn * [0.7, 0.8, 2.5], [-30.3, 41.7, 5.1])


def nifti(path: Path, array: np.ndarray = VOXELS, **fields: object) -> Path:
    """Write NIfTI-1 with header `fields` set to any value, valid or not."""
    image = nib.Nifti1Image(array, oblique_affine())
    path.write_bytes(image.to_bytes())
    header = nib.Nifti1Header(path.read_bytes()[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    return path


def test_image_has_shape_spacing_orientation_and_voxel_volume(tmp_path):
    image = read_image(nifti(tmp_path / "t1.nii"))
    assert image.shape == (4, 5, 6)
    assert image.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    assert image.orientation == "RAS"
    assert image.voxel_volume_ml == pytest.approx(0.7 * 0.8 * 2.5 / 1000)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_nifti_of_every_kind_is_read_as_nibabel_reads_it(tmp_path, name, image_class, byte_order, dtype):
    header = image_class.header_class(endianness=byte_order)
    image = image_class((VOXELS + 20).astype(dtype), oblique_affine(), header)
    image.set_data_dtype(dtype)
    plain = tmp_path / ("a.nii.gz" if name.lower().endswith("gz") else "a.nii")
    image.to_filename(plain)
    read = read_image(plain.rename(tmp_path / name))
    assert read.array.dtype == np.float32
    np.testing.assert_array_equal(read.array, VOXELS + 20)
    np.testing.assert_array_equal(read.affine, image_class.from_bytes(image.to_bytes()).affine)


def test_scale_factors_are_applied(tmp_path):
    read = read_image(nifti(tmp_path / "a.nii", scl_slope=2.5, scl_inter=-7))
    np.testing.assert_allclose(read.array, VOXELS * 2.5 - 7)


def test_nifti_without_form_codes_uses_the_spacing(tmp_path):
    with pytest.warns(InputWarning, match="no sform and no qform"):
        read = read_image(nifti(tmp_path / "a.nii", sform_code=0, qform_code=0))
    np.testing.assert_array_equal(read.affine, nib.load(read.path).affine)
    assert read.spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_gzip_is_detected_by_the_bytes_not_the_name(tmp_path):
    plain = nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(plain.rename(tmp_path / "a.nii.gz")).array, VOXELS)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd"])
def test_itk_formats_give_the_same_image_as_nifti(tmp_path, name):
    expected = read_image(nifti(tmp_path / "a.nii"))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(expected.path)), str(tmp_path / name))
    read = read_image(tmp_path / name)
    np.testing.assert_array_equal(read.array, expected.array)
    np.testing.assert_allclose(read.affine, expected.affine, atol=1e-4)


def test_images_are_read_and_written_without_simpleitk(tmp_path):
    nifti(tmp_path / "a.nii")
    for suffix in ("nrrd", "mha"):
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / f"a.{suffix}"))
    script = (
        "import sys; sys.modules['SimpleITK'] = None\n"
        "from pathlib import Path\n"
        "from anymri.data.image import read_scan, write_like\n"
        "for name in ('a.nii', 'a.nrrd', 'a.mha'):\n"
        "    scan = read_scan(Path(name)); write_like(Path(f'{name}.nii.gz'), scan.array, scan)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    for written in tmp_path.glob("*.gz"):
        np.testing.assert_array_equal(read_image(written).array, VOXELS)


@pytest.mark.parametrize("name", ["a.mgh", "a.mgz"])
def test_freesurfer_volume_is_read(tmp_path, name):
    content = nib.MGHImage(VOXELS.astype(np.float32), oblique_affine()).to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.mgz" else content)
    read = read_image(tmp_path / name)
    np.testing.assert_array_equal(read.array, VOXELS)
    np.testing.assert_array_equal(read.affine, nib.MGHImage.from_bytes(content).affine)


def refused_files() -> dict[str, tuple[str, Callable[[Path], object]]]:
    """Return: what is wrong -> words of the error, and a function that writes such a file at a path without suffix."""

    def with_suffix(suffix: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
        def written(stem: Path) -> Path:
            path = stem.with_suffix(suffix)
            write(path)
            return path

        return written

    def nii(array: np.ndarray = VOXELS, **fields: object) -> Callable[[Path], Path]:
        return with_suffix(".nii", lambda path: nifti(path, array, **fields))

    def cut(path: Path) -> None:
        nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), path)
        path.write_bytes(path.read_bytes()[:-30])

    def cut_itk(path: Path) -> None:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path))
        path.write_bytes(path.read_bytes()[:-30])

    def mha(old: bytes, new: bytes) -> Callable[[Path], Path]:
        def write(path: Path) -> None:
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path))
            path.write_bytes(path.read_bytes().replace(old, new))

        return with_suffix(".mha", write)

    nan = VOXELS.astype(np.float32)
    nan[0, 0, :2], nan[1, 1, 1] = np.nan, np.inf
    colour = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    vectors = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    return {
        "missing": ("does not exist", lambda stem: stem.with_suffix(".nii")),
        "folder": ("is a folder", with_suffix(".nii", Path.mkdir)),
        "unknown name": ("not have the suffix of an image", with_suffix(".png", Path.touch)),
        "empty file": ("damaged", with_suffix(".nii", Path.touch)),
        "empty gzip": ("damaged", with_suffix(".nii.gz", Path.touch)),
        "text": ("damaged", with_suffix(".nii.gz", lambda path: path.write_text("no image " * 100))),
        "text as nrrd": ("damaged", with_suffix(".nrrd", lambda path: path.write_text("no image " * 100))),
        "text as mha": ("damaged", with_suffix(".mha", lambda path: path.write_text("no image " * 100))),
        "cut nifti": ("has 562 bytes, too few for the 592", with_suffix(".nii", cut)),
        "cut gzip": ("damaged", with_suffix(".nii.gz", cut)),
        "cut mha": ("damaged", with_suffix(".mha", cut_itk)),
        "cut nrrd": ("damaged", with_suffix(".nrrd", cut_itk)),
        "absurd size": ("32767x32767x32767, larger than any MRI", nii(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])),
        "absurd size of mha": ("60000x5000x4000", mha(b"DimSize = 6 5 4", b"DimSize = 60000 5000 4000")),
        "absurd axes of mha": ("number of axes", mha(b"NDims = 3", b"NDims = 93")),
        "negative size": ("damaged", nii(dim=[3, -4, 5, 6, 1, 1, 1, 1])),
        "two files": ("the header of a pair", nii(magic=b"ni1", vox_offset=0)),
        "2-D": ("2-D (4x5)", nii(VOXELS[..., 0])),
        "4-D": ("3 volumes", nii(np.stack([VOXELS] * 3, -1))),
        "complex": ("complex", nii(VOXELS.astype(np.complex64))),
        "colour": ("colour", nii(colour)),
        "vectors": ("vector", with_suffix(".mha", lambda path: SimpleITK.WriteImage(vectors, str(path)))),
        "NaN": ("in 3 of 120 voxels", nii(nan)),
        "overflow": ("infinite", nii(np.full((4, 5, 6), 1e300))),
        "NaN in affine": ("cannot be used", nii(srow_x=[np.nan, 0, 0, 0])),
        "zero axis": ("spacing is 0 mm", nii(srow_x=0, srow_y=0, srow_z=[0, 1, 1, 0])),
        "zero spacing": ("spacing is 1, 0, 1", nii(sform_code=0, pixdim=[1, 1, 0, 1, 1, 1, 1, 1])),
        "metres": ("spacing is", nii(srow_x=[1e-3, 0, 0, 0], srow_y=[0, 1e-3, 0, 0], srow_z=[0, 0, 1e-3, 0])),
        "flat": ("are in one plane", nii(srow_x=[1, 0, 1, 0], srow_y=[0, 1, 1, 0], srow_z=0)),
    }


@pytest.mark.parametrize("kind", refused_files())
def test_file_without_a_finite_volume_raises_an_error_with_path_and_fix(tmp_path, kind, capfd):
    words, write = refused_files()[kind]
    path = write(tmp_path / "t1")
    with pytest.raises(ImageError) as refused:
        read_image(path)
    assert str(path) in refused.value.what
    assert words in refused.value.what
    assert refused.value.fix.endswith(".")
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore:.*minimal.nii.gz has no sform and no qform")
def test_awkward_real_files_are_read_as_by_nibabel_or_refused(real_data):
    refused = set()
    for path in sorted(p for p in (real_data / "awkward").rglob("*.*") if p.is_file()):
        try:
            image = read_image(path)
        except AnymriError:
            refused.add(path.name)
            continue
        if path.suffix != ".mha":
            expected = nib.load(path)
            np.testing.assert_array_equal(image.affine, expected.affine)
            values = np.squeeze(expected.get_fdata(dtype=np.float32))
            assert image.array.shape == values.shape, path
            # As np.testing.assert_allclose with rtol=1e-6, which takes three times as long.
            assert (np.abs(image.array - values) <= 1e-6 * np.abs(values)).all(), path
    multi_volume = {"example4d.nii.gz", "example_nifti2.nii.gz", "mpld_asl.nii.gz"}
    assert refused == multi_volume | {"complex.nii.gz", "SOURCE.md"}


def test_constant_image_is_refused_as_a_scan_only(tmp_path):
    path = nifti(tmp_path / "t2.nii", np.zeros((4, 5, 6), np.int16))
    assert not read_image(path).array.any()
    with pytest.raises(ImageError, match="missing scan is not a file of zeros"):
        read_scan(path)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_reorienting_to_lps_and_back_is_exact(orientation):
    start = inv_ornt_aff(axcodes2ornt(orientation), VOXELS.shape)
    image = Image(VOXELS.astype(np.float32), oblique_affine() @ start, Path("scan.nii"))
    reoriented, affine = to_lps(image.array, image.affine)
    assert nib.aff2axcodes(affine) == ("L", "P", "S")
    np.testing.assert_array_equal(from_lps(reoriented, image), image.array)

    voxel = np.argwhere(image.array == image.array[1, 2, 4])[0]
    reoriented_voxel = np.argwhere(reoriented == image.array[1, 2, 4])[0]
    np.testing.assert_allclose(
        nib.affines.apply_affine(affine, reoriented_voxel), nib.affines.apply_affine(image.affine, voxel), atol=1e-9
    )


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (2, 1)])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_written_map_has_the_geometry_of_its_scan_to_the_bit(tmp_path, dtype, codes, image_class):
    source = image_class(VOXELS[..., None], oblique_affine(), image_class.header_class(endianness=">"))
    source.header.set_qform(oblique_affine(), codes[0])
    source.header.set_sform(oblique_affine(), codes[1])
    source.header.set_xyzt_units("mm", "sec")
    source.header.set_slope_inter(3, 1)
    source.header["cal_max"] = 99
    (tmp_path / "scan.nii").write_bytes(source.to_bytes())
    like = read_image(tmp_path / "scan.nii")

    labels = (VOXELS % 4).astype(dtype)
    write_like(tmp_path / "seg.nii.gz", labels, like)

    written, scan = nib.load(tmp_path / "seg.nii.gz"), nib.load(like.path)
    assert written.shape == scan.shape == (4, 5, 6, 1)
    assert written.affine.tobytes() == scan.affine.tobytes()
    for name in ("qform_code", "sform_code", "pixdim", "xyzt_units", "srow_x", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(written.header[name], scan.header[name])
    assert written.header.get_data_dtype() == np.dtype(dtype).newbyteorder(">")
    assert written.dataobj.slope == 1
    assert written.header["cal_max"] == 0
    np.testing.assert_array_equal(written.get_fdata()[..., 0], labels)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_map_of_an_itk_scan_is_nifti_with_the_same_geometry(tmp_path, name):
    image = SimpleITK.ReadImage(str(nifti(tmp_path / "a.nii")))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    like = read_image(tmp_path / name)
    write_like(tmp_path / "seg.nii.gz", like.array.astype(np.uint8), like)
    np.testing.assert_allclose(read_image(tmp_path / "seg.nii.gz").affine, like.affine, atol=1e-5)


def test_written_bytes_depend_on_the_image_only(tmp_path):
    for folder in ("one", "other"):
        write_image(tmp_path / folder / f"{folder}.nii.gz", VOXELS, oblique_affine())
    one, other = (tmp_path / folder / f"{folder}.nii.gz" for folder in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    no_name, no_time = one.read_bytes()[3:4], one.read_bytes()[4:8]
    assert (no_name, no_time) == (bytes(1), bytes(4))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_new_volume_has_its_values_affine_and_unit(tmp_path, dtype):
    write_image(tmp_path / "t1.nii.gz", VOXELS.astype(dtype), oblique_affine())
    written = nib.load(tmp_path / "t1.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), VOXELS.astype(dtype))
    np.testing.assert_allclose(written.affine, oblique_affine(), atol=1e-5)
    assert (written.header["qform_code"], written.header["sform_code"]) == (1, 1)
    assert written.header.get_xyzt_units()[0] == "mm"
    assert written.get_data_dtype() == dtype


def test_written_map_has_the_geometry_of_its_scan_in_itk(tmp_path):
    like = read_image(nifti(tmp_path / "a.nii"))
    write_like(tmp_path / "seg.nii.gz", like.array, like)
    scan, written = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("a.nii", "seg.nii.gz"))
    assert (written.GetOrigin(), written.GetSpacing()) == (scan.GetOrigin(), scan.GetSpacing())
    assert written.GetDirection() == scan.GetDirection()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), SimpleITK.GetArrayFromImage(scan))


def test_map_of_another_shape_is_refused(tmp_path):
    like = read_image(nifti(tmp_path / "a.nii"))
    with pytest.raises(ValueError, match="array is"):
        write_like(tmp_path / "seg.nii.gz", np.zeros((5, 4, 6), np.uint8), like)
    assert not (tmp_path / "seg.nii.gz").exists()


def test_output_below_a_file_raises_an_output_error(tmp_path):
    like = read_image(nifti(tmp_path / "a.nii"))
    with pytest.raises(OutputError):
        write_like(like.path / "seg.nii.gz", np.zeros(like.shape, np.uint8), like)


@pytest.mark.parametrize("shape", [(8, 9, 1), (1, 8, 9), (8, 1, 9, 1)])
def test_a_single_slice_is_refused(tmp_path, shape):
    with pytest.raises(ImageError, match=r"is a single slice \(.*\)\.\nGive the whole 3-D volume"):
        read_image(nifti(tmp_path / "slice.nii", np.ones(shape, np.int16)))


def test_a_scan_with_the_values_of_a_label_map_is_noted(tmp_path):
    labels = np.arange(30**3).reshape(30, 30, 30) % 4
    with pytest.warns(InputWarning, match=r"scan\.nii is used as a scan, but .* is it a label map\?"):
        read_scan(nifti(tmp_path / "scan.nii", labels.astype(np.float32)))
    # A label map with other values in few voxels, or with values between whole numbers, can be a scan.
    labels[1, 2, :20] = np.arange(20)
    for scan in (labels.astype(np.int16), (labels % 4 / 3).astype(np.float32)):
        assert read_scan(nifti(tmp_path / "scan.nii", scan)).array.max() > 0
