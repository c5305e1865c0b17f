"""What the user gives the studio: dropped files, corrections, keys, and input that is wrong."""

import json
import shutil

import nibabel
import numpy as np

from studio.page.browser import Studio

CASE = "PHANTOM-00001-000"


def test_dropped_scans_open_with_their_assignment_corrected_by_hand(studio, place):
    folder = place / "dropped"
    shutil.copytree(place / "cohort" / CASE, folder, dirs_exist_ok=True)
    studio.drop(folder)
    studio.page.wait_for_selector(".proposal")
    chosen = [each.input_value() for each in studio.page.locator(".proposal select").all()]
    assert sorted(filter(None, chosen)) == ["FLAIR", "T1", "T1c", "T2"]
    flair = studio.page.get_by_label(f"Modality of {CASE}-t2f.nii.gz")
    start = studio.page.get_by_role("button", name="Start")
    flair.select_option("T1")
    assert start.is_disabled()
    assert "Two scans are assigned to T1" in studio.page.locator(".proposal [role=status]").inner_text()
    flair.select_option("")
    start.click()
    studio.shows("first from T1+T1c+T2")
    assert studio.page.locator(".switch", has_text="FLAIR").is_disabled()


def test_a_painted_correction_is_saved_with_its_author(studio, place):
    studio.open(CASE)
    studio.tab("Correct")
    studio.page.get_by_role("button", name="Correct by hand").click()
    studio.shows("correction by hand")
    before = studio.picture()
    box = studio.page.locator("canvas").first.bounding_box()
    at = (box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    studio.page.locator("#panel-3 input[value='4']").check()
    studio.page.mouse.move(*at)
    studio.page.mouse.down()
    studio.page.mouse.move(at[0] + 20, at[1] + 10, steps=3)
    studio.page.mouse.up()
    status = studio.page.locator("#panel-3 [role=status]")
    status.filter(has_text="voxels changed").wait_for()
    assert studio.picture() != before
    studio.page.get_by_role("button", name="Undo").click()
    status.filter(has_text="voxels restored").wait_for()
    studio.page.locator("canvas").first.focus()
    studio.page.keyboard.press(" ")
    status.filter(has_text="voxels changed").wait_for()
    painted = int(status.inner_text().split()[0])
    studio.page.get_by_role("button", name="Save").click()
    assert "who corrected" in status.inner_text()
    studio.page.get_by_label("Author").fill("Zoë Test")
    studio.page.get_by_role("button", name="Save").click()
    status.filter(has_text="Saved").wait_for()
    studio.shows("Corrected")
    folder = place / "corrections" / CASE
    record = json.loads((folder / "corrected.json").read_text())
    assert "Zoë Test" in json.dumps(record, ensure_ascii=False)
    classes = np.asarray(nibabel.load(folder / "corrected.nii.gz").dataobj)
    assert np.count_nonzero(classes == 4) == painted


def test_keys_alone_are_enough(studio):
    page = studio.page
    for _ in range(12):
        page.keyboard.press("Tab")
        if CASE in page.evaluate("() => document.activeElement.textContent"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector(".proposal, canvas")
    if page.locator(".proposal").count():
        page.keyboard.press("Enter")  # the button has the focus
    studio.shows("T1c, first from")
    place, caption = page.locator(".place"), page.locator("figcaption").first
    before = place.inner_text()
    page.keyboard.press("ArrowRight")
    assert place.inner_text() != before
    for key in ("d", "Shift+ArrowRight", "d"):
        page.keyboard.press(key)
    assert "Distance 10.0 mm" in page.locator(".measurements").inner_text()
    page.keyboard.press("u")
    assert page.locator(".measurements li").count() == 0
    page.keyboard.press("1")
    caption.filter(has_text="T1, first").wait_for()
    page.keyboard.press("Shift+Digit1")
    caption.filter(has_text="from T1c+T2+FLAIR").wait_for()
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    page.locator("#tab-0").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-1").is_visible()
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineWidth")
    assert outline != "0px"


def test_names_of_files_are_text(studio, place):
    folder = place / "<img src=x onerror=alert(1)>"
    shutil.copytree(place / "cohort" / CASE, folder, dirs_exist_ok=True)
    studio.drop(folder)
    studio.page.wait_for_selector(".proposal")
    assert studio.page.locator("#content img, #entries img, #place img").count() == 0


def test_a_file_that_is_not_a_scan_is_refused_in_words(browser, address, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear colleague")
    page = Studio(browser, address)
    page.drop(tmp_path / "letter.txt")
    notice = page.page.locator("#notices .notice")
    notice.first.wait_for()
    assert len(notice.first.locator("p").all()) == 2
    page.page.get_by_label("Close this message").first.click()
    page.open(CASE)  # the page still works
    page.close()


def test_a_failed_step_and_a_studio_that_ended_are_shown(browser, address):
    page = Studio(browser, address)
    page.open(CASE)
    failure = {"what": "The worker ended unexpectedly.", "fix": "Start the step again."}
    job = {"id": "x", "state": "failed", "step": "", "done": 0, "of": 0, "error": failure, "result": None}
    page.page.route("**/segment", lambda route: route.fulfill(json=job))
    page.page.get_by_label("Weights").select_option("second")
    page.page.locator("#notices .notice", has_text="The worker ended unexpectedly.").wait_for()
    page.page.unroute("**/segment")
    page.page.route("**/api/**", lambda route: route.abort())
    page.page.locator("[data-subset='T1']").click()
    page.page.locator("#notices .notice", has_text="does not run any more").wait_for()
    page.close()


def test_without_weights_scans_are_shown_and_the_page_says_what_to_do(browser, address):
    page = Studio(browser)
    problem = {"what": "No weights are installed.", "fix": "Install some with `anymri weights add`."}

    def without_weights(route):
        route.fulfill(json={**route.fetch().json(), "weights": [], "weights_in_use": None, "problem": problem})

    page.page.route("**/api/state", without_weights)
    page.enter(address)
    page.page.locator(".entry", has_text=CASE).click()
    page.page.wait_for_selector(".proposal, canvas")
    if page.page.locator(".proposal").count():
        page.page.locator(".proposal button.primary").click()
    page.shows("Expert")
    assert problem["fix"] in page.page.locator(".notice-inline").inner_text()
    assert page.page.locator(".switch:enabled").count() == 0
    page.close()
    assert page.problems == []
