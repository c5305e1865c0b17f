"""Take pictures of the studio's page: python benchmarks/studio_pictures.py WORK [--docs]

WORK gets a synthetic case, an evaluation with invented values, and pictures of every view at 1280x800 and 1920x1080,
light and dark, to be looked at one by one. With --docs, those of docs/studio.md are written to docs/images again. Needs
Chromium and Playwright, as the tests of the page do, and their folder on the path: PYTHONPATH=tests
"""

import sys
from pathlib import Path

from PIL import Image

from anymri.synthesis.phantoms import write_cohort
from made_evaluations import point_to, write_evaluation
from studio.page.browser import Studio, running_browser, running_studio

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
# Picture of the documents -> view, size and colour scheme.
DOCUMENTS = {
    "studio.jpg": ("subset", "small", "dark"),
    "studio-open.jpg": ("proposal", "small", "light"),
    "studio-compare.jpg": ("compare", "small", "dark"),
    "studio-correct.jpg": ("correct", "small", "light"),
    "studio-evaluation.jpg": ("evaluation", "small", "light"),
}
WIDTH = 1000
SEED, CASES = 7, 12


def prepare(work):
    """Write a case and an evaluation with invented values, whose cases are all that case."""
    cases = write_cohort(work / "case", 1, seed=SEED, style="realistic", easy=True)
    if not (work / "evaluation").exists():
        write_evaluation(work / "evaluation", cases=CASES, metrics=("dice", "hd95"))
        point_to(work / "evaluation", cases * CASES)


def as_proposed(route):
    """Answer a request for the state as if no case were ready."""
    state = route.fetch().json()
    for entry in state["entries"]:
        entry["state"] = "proposed" if entry["kind"] == "case" else entry["state"]
    route.fulfill(json=state)


def compute(studio):
    """Prepare the case and compute all its subsets, for all pictures."""
    studio.page.set_default_timeout(600_000)
    studio.open("PHANTOM")
    studio.page.get_by_role("button", name="Compute all subsets").click()
    studio.has_all_subsets()


def views(studio):
    """Show one view of the page after the other, and yield its name."""
    yield from before_the_case(studio)
    yield from the_case(studio)
    yield from labels(studio)


def before_the_case(studio):
    page = studio.page
    page.wait_for_selector(".entry")
    yield "welcome"
    page.locator(".entry", has_text="evaluation").click()
    page.wait_for_selector(".plot svg")
    yield "evaluation"
    page.keyboard.press("?")
    yield "keys"
    page.keyboard.press("Escape")
    # The case is ready by now; what precedes that is shown once more.
    page.route("**/api/state", as_proposed)
    page.reload()
    page.locator(".entry", has_text="PHANTOM").click()
    page.wait_for_selector(".proposal")
    yield "proposal"
    page.unroute("**/api/state")
    page.reload()


def the_case(studio):
    page = studio.page
    studio.open("PHANTOM")
    studio.shows("from T1+T1c+T2+FLAIR")
    studio.has_all_subsets()
    yield "case"
    page.locator("[data-subset='T1+T1c+T2']").click()
    studio.shows("from T1+T1c+T2")
    page.wait_for_selector(".result input")
    page.locator("[data-subset='T1+T1c']").focus()
    yield "subset"
    page.keyboard.press("o")
    page.keyboard.press("r")
    page.wait_for_timeout(1500)
    yield "outline"
    page.keyboard.press("o")
    page.keyboard.press("r")
    studio.tab("View")
    page.get_by_label("Heat map").select_option("WT")
    page.wait_for_function("() => !document.querySelector('.scale').hidden")
    studio.shows("from T1+T1c+T2")
    page.keyboard.press("v")
    yield "heat"
    page.get_by_label("Heat map").select_option("none")


def labels(studio):
    page = studio.page
    studio.tab("Compare")
    page.get_by_role("button", name="Compare").click()
    studio.shows("Expert", pane=1)
    yield "compare"
    page.get_by_role("button", name="Show one view").click()
    studio.tab("Correct")
    page.get_by_role("button", name="Correct by hand").click()
    studio.shows("correction by hand")
    box = page.locator("canvas").first.bounding_box()
    # Oedema beside the tumour, which the subset lost.
    page.locator("#panel-3 input[value='2']").check()
    at = (box["x"] + 0.1 * box["width"], box["y"] + 0.45 * box["height"])
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(at[0] - 10, at[1] + 50, steps=4)
    page.mouse.up()
    page.locator("#panel-3 [role=status]", has_text="voxels changed").wait_for()
    yield "correct"
    page.route("**/correction", lambda route: route.abort())
    page.get_by_label("Author").fill("A. Reader")
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("#notices .notice")
    yield "error"


def main():
    """Take all pictures."""
    work, is_docs = Path(sys.argv[1]), "--docs" in sys.argv
    work.mkdir(parents=True, exist_ok=True)
    prepare(work)
    wanted = [(size, scheme) for size in ("small", "large") for scheme in ("light", "dark")]
    if is_docs:
        wanted = sorted({(size, scheme) for _, size, scheme in DOCUMENTS.values()}, reverse=True)
    with running_browser() as browser, running_studio(work, "case", "evaluation", "--weights", "starter") as url:
        first = Studio(browser, url)
        compute(first)
        first.close()
        for size, scheme in wanted:
            studio = Studio(browser, url, size, scheme)
            for view in views(studio):
                studio.page.wait_for_timeout(400)
                studio.page.screenshot(path=work / f"{view}-{size}-{scheme}.png")
            studio.close()
    for name, (view, size, scheme) in DOCUMENTS.items() if is_docs else ():
        picture = Image.open(work / f"{view}-{size}-{scheme}.png").convert("RGB")
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
        picture.save(IMAGES / name, quality=80, optimize=True)


if __name__ == "__main__":
    main()
