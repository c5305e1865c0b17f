"""The page of the studio in a browser: modalities, scans, overlays, comparison, evaluation."""

import pytest

import anymri
from anymri.modalities import MODALITIES, Subset

CASE = "PHANTOM-00000-000"
ALL = "T1+T1c+T2+FLAIR"


@pytest.fixture(scope="module")
def segmenter(place):
    """Return the first weights of the studio in this process."""
    return anymri.load(place / "first.safetensors")


def test_switches_show_the_segmentation_of_the_modalities_that_are_on(studio, place, segmenter):
    studio.open(CASE)
    for missing in MODALITIES:
        subset = str(Subset.of(set(MODALITIES) - {missing}))
        studio.shows(f"first from {ALL}")
        before = studio.picture()
        studio.page.get_by_role("switch", name=missing, exact=True).click()
        studio.shows(f"first from {subset}")
        studio.page.wait_for_selector(".result input")
        assert studio.picture() != before
        expected = segmenter.segment(place / "cohort" / CASE, subset).volumes_ml
        assert studio.volumes() == {region: f"{expected[region]:.1f}" for region in ("WT", "TC", "ET")}
        studio.page.get_by_role("switch", name=missing, exact=True).click()


def test_the_change_is_drawn_where_the_volumes_changed(studio):
    studio.open(CASE)
    studio.page.keyboard.press("Shift+Digit4")
    studio.shows("first from T1+T1c+T2")
    studio.page.wait_for_selector(".result input")
    printed = studio.page.locator("table.volumes tbody tr").first.locator("td").nth(2).inner_text()
    # Voxels of 1 mm, drawn as added (5) and lost (6).
    counts = studio.page.evaluate(
        """async () => {
            const { LabelMaps } = await import("/assets/labels.js");
            const path = location.origin + "/api/cases/" + document.querySelector(".current .entry").dataset.id;
            const maps = new LabelMaps(path, []);
            const drawn = await maps.withChange({ weights: "first", subset: "T1+T1c+T2" });
            return [5, 6].map((value) => drawn.filter((each) => each === value).length);
        }"""
    )
    assert printed == f"+{counts[0] / 1000:.1f} \N{MINUS SIGN}{counts[1] / 1000:.1f}"
    with_change = studio.picture()
    studio.page.keyboard.press("c")
    studio.page.wait_for_function("() => !document.querySelector('.result input').checked")
    studio.shows("first from T1+T1c+T2")
    assert studio.picture() != with_change


def test_the_last_modality_stays_on(studio):
    studio.open(CASE)
    studio.page.locator("[data-subset='T1c']").click()
    studio.shows("first from T1c")
    studio.page.get_by_role("switch", name="T1c", exact=True).click()
    assert "stays on" in studio.page.locator(".hint").inner_text()
    assert studio.page.get_by_role("switch", name="T1c", exact=True).get_attribute("aria-checked") == "true"


def test_all_subsets_are_computed_and_chosen(studio):
    studio.open(CASE)
    cells = studio.page.locator(".cell")
    compute = studio.page.get_by_role("button", name="Compute all subsets")
    if compute.count():  # the server may have computed them all before
        compute.click()
    studio.has_all_subsets()
    assert cells.count() == 15
    studio.page.locator("[data-subset='T1c+FLAIR']").click()
    studio.shows("first from T1c+FLAIR")
    studio.page.locator("[data-subset='T1+T2']").hover()
    assert "matters most here" in studio.page.locator(".hint").inner_text()


def test_scans_mask_outline_and_opacity_change_the_picture(studio):
    studio.open(CASE)
    studio.shows(f"T1c, first from {ALL}")
    seen = [studio.picture()]
    for key, shown in (("4", "FLAIR, "), ("m", "FLAIR, "), ("m", "FLAIR, "), ("o", "FLAIR, "), ("PageUp", "FLAIR, ")):
        studio.page.keyboard.press(key)
        studio.shows(shown)
        seen.append(studio.picture())
    assert seen[1] == seen[3]  # the mask hidden and shown again
    assert len(set(seen)) == len(seen) - 1
    studio.page.get_by_label("Opacity", exact=False).first.fill("100")
    studio.page.keyboard.press("Tab")
    studio.page.get_by_role("button", name="Outline").click()
    studio.shows("FLAIR, ")
    assert studio.picture() not in seen


def test_heat_maps_and_reconstructed_scans_are_shown(studio):
    studio.open(CASE)
    studio.page.get_by_label("Weights").select_option("second")
    studio.shows(f"second from {ALL}")
    studio.page.get_by_role("switch", name="T2", exact=True).click()
    studio.shows("second from T1+T1c+FLAIR")
    studio.tab("View")
    without = studio.picture()
    for name in ("WT", "uncertainty"):
        studio.page.get_by_label("Heat map").select_option(name)
        studio.page.wait_for_function("() => !document.querySelector('.scale').hidden")
        studio.shows("second from T1+T1c+FLAIR")
        assert studio.picture() != without
    studio.page.get_by_label("Beside").select_option("T2")
    studio.shows("T2 reconstructed", pane=1)
    assert studio.page.locator("figure").nth(1).is_visible()


def test_two_systems_and_the_expert_are_compared_with_one_crosshair(studio):
    studio.open(CASE)
    studio.tab("Compare")
    studio.page.get_by_label("Right").select_option("weights:second")
    studio.page.get_by_role("button", name="Compare").click()
    studio.shows(f"second from {ALL}", pane=1)
    between = studio.page.locator("#panel-2 tbody tr").first.locator("td").last.inner_text()
    studio.page.get_by_label("Right").select_option("label:expert")
    studio.shows("Expert", pane=1)
    studio.page.wait_for_function(
        f"() => document.querySelector('#panel-2 tbody td:last-child').textContent !== '{between}'"
    )
    right = studio.picture(pane=1)
    studio.page.get_by_text("Draw where they disagree").click()
    studio.page.wait_for_function("() => !document.querySelector('.legend').textContent.includes('Only left')")
    plain = studio.picture(pane=1)
    assert plain != right
    studio.page.locator("canvas").first.focus()
    studio.page.keyboard.press("Shift+ArrowUp")
    studio.shows("Expert", pane=1)
    assert studio.picture(pane=1) != plain


def test_an_evaluation_is_a_table_and_a_plot_whose_cases_open(studio):
    studio.page.locator(".entry", has_text="evaluation").click()
    studio.page.wait_for_selector(".plot svg")
    assert studio.page.locator(".means tbody tr").count() == 15
    assert studio.page.locator("circle.dot").count() == 2 * 15
    studio.page.get_by_role("button", name="Cases of T1c", exact=True).click()
    assert "Cases from T1c" in studio.page.locator(".cases caption").inner_text()
    studio.page.locator("circle.dot").first.click()
    studio.page.wait_for_selector(".proposal")
    assert studio.page.locator("#place").inner_text().startswith("case-0")
