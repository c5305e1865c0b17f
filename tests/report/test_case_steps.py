"""Steps of a preparation as sentences with figures."""

from anymri.report.case_steps import steps


def a_step(scan, what, why, **figures):
    return {"scan": scan, "what": what, "why": why, "figures": figures, "seconds": 1.0}


def test_what_was_done_in_the_same_way_with_several_scans_is_one_step():
    brains = [a_step(scan, "brain", "It was found.", method="deepbet", volume_ml=ml) for scan, ml in (("T1", 1251.6),)]
    brains += [a_step("T1c", "brain", "It was found.", method="deepbet", volume_ml=1260.2)]
    brains += [a_step("T2", "brain", "It was given.", method="given", volume_ml=1260.2)]
    one, other = steps(brains, {})
    assert one == {"scan": "T1, T1c", "what": "brain", "why": "It was found.", "figures": "volume 1252 / 1260 mL"}
    assert other["scan"] == "T2"


def test_figures_have_units_and_equal_ones_are_shown_once():
    figures = {"residual_mm": 0.0891, "overlap": 0.9895, "kept": False}
    done = [a_step("T1", "registration", "It was moved.", **figures)]
    done += [a_step(scan, "resampling", "It was.", covered_share=1.0, subtracted=-3.5) for scan in ("T1", "T2")]
    done += [a_step("study", "grid", "It is.", shape=[142, 178, 148])]
    assert [(step["scan"], step["figures"]) for step in steps(done, {})] == [
        ("T1", "residual 0.09 mm, overlap 0.99"),
        ("T1, T2", "covered 100 %, subtracted -3.5"),
        ("all scans", "shape 142 x 178 x 148"),
    ]


def test_files_of_the_case_are_named_by_their_role():
    done = [a_step("T1", "brain", "The brain mask Jane.nii.gz is used.")]
    (step,) = steps(done, {"brain mask": {"file": "/data/Jane.nii.gz"}})
    assert step["why"] == "The brain mask the brain mask file is used."
