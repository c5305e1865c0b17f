"""Colour tables of viewers, parsed by the rules of their programs."""

import shlex

import pytest

from anymri.export.viewers import LABELS, itksnap_labels, slicer_colour_table, write_viewer_files
from anymri.inference.result_files import ADDED
from anymri.regions import CLASSES
from anymri.report.figures import REGION_COLOURS


def parse_slicer(text):
    """Return value -> (name, colour, opacity) of a discrete colour table."""
    lines = text.splitlines()
    assert lines[0].startswith("# Color table file")
    rows = [line.split() for line in lines if not line.startswith("#")]
    assert all(len(row) == 6 for row in rows)
    assert lines[1] == f"# {len(rows)} values"
    return {int(v): (name, (int(r), int(g), int(b)), int(a)) for v, name, r, g, b, a in rows}


def parse_itksnap(text):
    """Return value -> (name, colour, opacity) of a label description file, and check its flags."""
    assert text.startswith("# ITK-SnAP Label Description File\n")
    rows = [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]
    assert all(len(row) == 8 for row in rows)
    assert all({visible, mesh} <= {"0", "1"} for *_, visible, mesh, _ in rows)
    return {int(v): (name, (int(r), int(g), int(b)), float(a)) for v, r, g, b, a, _, _, name in rows}


@pytest.mark.parametrize("num_classes", [4, 5])
def test_both_files_have_every_label_value_with_its_name_and_colour(num_classes):
    slicer, itksnap = parse_slicer(slicer_colour_table(num_classes)), parse_itksnap(itksnap_labels(num_classes))
    assert sorted(slicer) == sorted(itksnap) == list(range(num_classes))
    assert slicer[0][2] == itksnap[0][2] == 0  # the background is transparent
    for value in range(1, num_classes):
        name, colour = LABELS[value]
        assert slicer[value] == (name.replace(" ", "_"), colour, 255)
        assert itksnap[value] == (name, colour, 1)


def test_colours_are_those_of_the_figures():
    def rgb(code):
        return tuple(bytes.fromhex(code[1:]))

    for tissue, region in {"NCR": "TC", "ED": "WT", "ET": "ET", "RC": "RC"}.items():
        assert LABELS[CLASSES.index(tissue)].colour == rgb(REGION_COLOURS[region])


def test_both_files_are_written_with_names_that_a_new_result_replaces(tmp_path):
    paths = write_viewer_files(tmp_path)
    assert {path.name for path in paths} <= set(ADDED)
    assert parse_slicer(paths[0].read_text()) and parse_itksnap(paths[1].read_text())
