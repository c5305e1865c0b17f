"""Pictures of cases: scans, slices, orientation and contours."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from anymri.errors import ConfigurationError, ModalityError
from anymri.modalities import SUBSETS
from anymri.regions import ED, ET, NCR, RC
from anymri.report import figures

SHAPE = (40, 50, 30)


def a_tumour(shape=SHAPE):
    """Return classes whose largest slices are sagittal 11, coronal 12 and axial 13, in the patient's right front."""
    classes = np.zeros(shape, np.uint8)
    classes[8:15, 9:16, 10:17] = ED
    classes[9:14, 10:15, 11:16] = NCR
    classes[10:13, 11:14, 12:15] = ET
    classes[11, 12, 9:20] = ED
    classes[11, 5:20, 13] = ED
    classes[5:20, 12, 13] = ED
    return classes


def scan(shape=SHAPE):
    image = np.zeros(shape, np.float32)
    image[3:-3, 3:-3, 3:-3] = np.random.default_rng(0).uniform(1, 100, [n - 6 for n in shape])
    return image


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_montage_shows_each_subset_on_one_of_its_scans():
    scans = {name: scan() for name in ("T1", "T1c", "T2", "FLAIR")}
    half = a_tumour()
    half[:12] = 0
    figure = figures.montage(scans, a_tumour(), {"T1+T2": half, "T1c+FLAIR": a_tumour(), "T1": half * 0})
    truth, t1_t2, t1c_flair, t1 = titles(figure)
    assert truth == "truth\non T1c"
    assert t1_t2.startswith("T1+T2\non T2\nDice WT ")
    assert t1c_flair == "T1c+FLAIR\non T1c\nDice WT 100 TC 100 ET 100"
    assert t1 == "T1\non T1\nno tumour"


def test_montage_shows_the_slice_with_the_most_tumour_in_radiological_orientation():
    image = scan()
    marked = image.copy()
    marked[3, 12, 13] = 1e6  # the patient's far right, on the axial and coronal slices shown
    marked[11, 3, 13] = 1e6  # far front, on the axial and sagittal slices
    marked[11, 12, 26] = 1e6  # top, on the coronal and sagittal slices
    figure = figures.montage({"T1c": marked}, a_tumour(), {})
    axial, coronal, sagittal = (axes.images[0] for axes in figure.axes)

    def bright(shown):
        """Return where the marks are on the screen: (from the left, from the top), each in 0..1."""
        rows, columns = np.nonzero(shown.get_array() > 1e5)
        height, width = shown.get_array().shape
        down = rows / height if shown.origin == "upper" else 1 - rows / height
        return sorted(zip((columns / width).round(1).tolist(), down.round(1).tolist(), strict=True))

    assert min(bright(axial))[0] < 0.15  # patient's right is left on the screen
    assert min(y for _, y in bright(axial)) < 0.15  # front is up
    assert min(bright(coronal))[0] < 0.15
    assert min(y for _, y in bright(coronal)) < 0.2  # superior is up
    assert min(bright(sagittal))[0] < 0.15  # front is left
    assert min(y for _, y in bright(sagittal)) < 0.2
    assert [len(bright(shown)) for shown in (axial, coronal, sagittal)] == [2, 2, 2]


def test_regions_with_one_border_are_all_visible():
    classes = np.zeros(SHAPE, np.uint8)
    classes[8:20, 9:20, 10:20] = ET  # WT and TC are the same voxels
    figure = figures.montage({"T1c": scan()}, None, {"T1c": classes})
    lines = {tuple(each.get_edgecolor()[0]): each for each in figure.axes[0].collections}
    wt, tc, et = (lines[to_rgba(figures.REGION_COLOURS[region])] for region in ("WT", "TC", "ET"))
    assert wt.get_linewidth()[0] > tc.get_linewidth()[0] > et.get_linewidth()[0]
    assert et.get_linestyle()[0][1] and not tc.get_linestyle()[0][1]  # only ET has gaps
    assert [line.is_dashed() for line in figure.legends[0].get_lines()] == [False, False, True]


def test_montage_of_all_15_subsets_and_the_truth_is_four_rows_of_four():
    figure = figures.montage(
        {"T2": scan(), "T1c": scan(), "T1": scan(), "FLAIR": scan()},
        a_tumour(),
        dict.fromkeys(map(str, SUBSETS), a_tumour()),
    )
    assert len(figure.axes) == 16
    assert len(titles(figure)) == 16


def test_montage_keeps_the_proportions_of_thick_slices():
    figure = figures.montage({"T1": scan()}, None, {"T1": a_tumour()}, (1.0, 1.0, 5.0))
    assert [axes.get_aspect() for axes in figure.axes] == [1.0, 5.0, 5.0]


def test_montage_names_the_resection_cavity_only_where_there_is_one():
    def legend(classes):
        return [text.get_text() for text in figures.montage({"T1": scan()}, classes, {}).legends[0].get_texts()]

    cavity = a_tumour()
    cavity[30, 30, 20] = RC
    assert legend(a_tumour()) == ["WT", "TC", "ET"]
    assert legend(cavity) == ["WT", "TC", "ET", "RC"]


def test_montage_draws_scans_with_nan_and_maps_without_tumour():
    broken = scan()
    broken[5, 5, 5] = np.nan
    figures.as_png(figures.montage({"T1": broken}, None, {"T1": np.zeros(SHAPE, np.uint8)}))
    figures.as_png(figures.montage({"T1": np.zeros(SHAPE)}, np.zeros(SHAPE, np.uint8), {}))


def test_montage_without_a_scan_of_the_subset_or_without_maps_is_refused():
    with pytest.raises(ModalityError, match="no scan to show under T2"):
        figures.montage({"T1": scan()}, None, {"T2": a_tumour()})
    with pytest.raises(ConfigurationError):
        figures.montage({"T1": scan()}, None, {})


def test_montage_of_a_real_case_is_a_picture(real_data):
    nibabel = pytest.importorskip("nibabel")
    files = sorted((real_data / "brats-gli-00000-000").glob("*-t1c.nii.gz"))
    if not files:
        pytest.skip("no case brats-gli-00000-000")
    volume = np.asarray(nibabel.load(files[0]).dataobj)
    png = figures.as_png(figures.montage({"T1c": volume}, None, {"T1c": a_tumour(volume.shape)}))
    assert png.startswith(b"\x89PNG")


def test_montage_of_systems_shows_one_scan_of_their_common_subset():
    scans = {name: scan() for name in ("T1", "T1c", "T2", "FLAIR")}
    figure = figures.montage(scans, a_tumour(), {"a": a_tumour(), "b": a_tumour() * 0}, subset="T2+FLAIR")
    truth, a, b = titles(figure)
    assert truth == "truth\non FLAIR"
    assert a == "a\non FLAIR\nDice WT 100 TC 100 ET 100"
    assert b == "b\non FLAIR\nno tumour"


def test_reconstructed_and_real_scans_share_black_and_white():
    true = {"T1": scan(), "T2": 2 * scan()}
    brain = scan() > 0
    reconstructed = {name: 0.5 * image for name, image in true.items()}
    figure = figures.reconstructed_scans(true, reconstructed, brain, a_tumour())
    assert len(figure.axes) == 3 * 2
    for column, (name, image) in enumerate(true.items()):
        shown = [figure.axes[2 * row + column].images[0] for row in range(3)]
        assert shown[0].get_clim() == shown[1].get_clim()
        low, high = shown[2].get_clim()
        assert low == -high == -np.diff(shown[0].get_clim())[0] / 2
        np.testing.assert_allclose(shown[2].get_array(), -0.5 * image[..., 13].T)  # the slice with the most tumour
        assert figure.axes[column].get_title().startswith(f"{name}\nPSNR ")
