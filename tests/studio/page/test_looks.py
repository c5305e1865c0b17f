"""The page fits its window, its text is legible, and its controls have names."""

import pytest

from studio.page.browser import Studio

CASE = "PHANTOM-00000-000"
# Contrast of normal text that WCAG 2 AA asks for.
CONTRAST = 4.5

OVERFLOWING = """() => [...document.querySelectorAll('html, header, .toolbar, .panel, .readout, .task')]
    .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.className || e.tagName)"""

OVERLAPPING = """() => {
    const kinds = 'button, select, input, output, th, td, figcaption, .legend li, .place';
    const shown = [...document.querySelectorAll(kinds)]
        .filter((e) => e.checkVisibility() && e.getClientRects().length);
    const boxes = shown.map((e) => [e, e.getBoundingClientRect()]);
    const found = [];
    for (const [one, a] of boxes) for (const [other, b] of boxes) {
        if (one === other || one.contains(other) || other.contains(one)) continue;
        const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (width > 2 && height > 2) found.push(one.textContent + ' | ' + other.textContent);
    }
    return found;
}"""

FAINT = """(least) => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const linear = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = (e) => {
        for (; e; e = e.parentElement) {
            const colour = numbers(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest(':disabled')
        && [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
    return texts.map((e) => {
        const pair = [light(numbers(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
        return [e.textContent.slice(0, 30), (pair[0] + 0.05) / (pair[1] + 0.05)];
    }).filter(([, contrast]) => contrast < least);
}"""

NAMELESS = """() => [...document.querySelectorAll('button, select, input, canvas, a[href]')]
    .filter((e) => e.checkVisibility() && !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
    .map((e) => e.outerHTML)"""


@pytest.mark.parametrize(("size", "scheme"), [("small", "dark"), ("large", "light")])
def test_every_panel_fits_and_is_legible(browser, address, size, scheme):
    studio = Studio(browser, address, size, scheme)
    assert _faults(studio) == {}
    studio.page.locator(".entry", has_text="evaluation").click()
    studio.page.wait_for_selector(".plot svg")
    assert _faults(studio) == {}
    studio.page.locator(".entry", has_text=CASE).click()
    studio.page.wait_for_selector(".proposal, canvas")
    assert _faults(studio) == {}
    studio.open(CASE)
    studio.page.locator("[data-subset='T1c+FLAIR']").click()
    studio.shows("from T1c+FLAIR")
    studio.page.wait_for_selector(".result input")
    for tab in ("Segment", "View", "Compare", "Correct"):
        studio.tab(tab)
        assert _faults(studio) == {}, tab
    studio.close()
    assert studio.problems == []


def test_the_theme_follows_the_system_until_it_is_chosen(studio):
    def becomes(theme):
        studio.page.wait_for_function("(theme) => document.documentElement.dataset.theme === theme", arg=theme)

    becomes("light")
    studio.page.emulate_media(color_scheme="dark")
    becomes("dark")
    studio.page.get_by_role("button", name="Dark").click()
    becomes("light")
    studio.page.reload()
    becomes("light")


def _faults(studio):
    found = {
        "overflowing": studio.page.evaluate(OVERFLOWING),
        "overlapping": studio.page.evaluate(OVERLAPPING),
        "faint": studio.page.evaluate(FAINT, CONTRAST),
        "nameless": studio.page.evaluate(NAMELESS),
    }
    return {fault: elements for fault, elements in found.items() if elements}
