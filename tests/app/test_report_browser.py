"""The report in a real browser: what a hand does changes the pictures, nothing complains, everyone can read it."""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is needed: pip install '.[test]'")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
AXE = Path(os.environ.get("SPECTAC_AXE", ""))
"""axe.min.js of the npm package axe-core."""

DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 360, "height": 780}


@pytest.fixture(scope="module")
def report(result):
    return (result[1] / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian's package chromium)")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield started
        started.close()


@pytest.fixture
def opened(browser, report):
    """Function that opens the report; at the end no page may have complained or asked the network for anything."""
    complaints, contexts = [], []

    def open_page(viewport=DESKTOP, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(report) else None)
        page.goto(report)
        page.locator(".method figcaption", has_text="at the cross-hair").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def picture(page, method, plane):
    """Bytes of a canvas as the page shows it."""
    return page.locator(f'.method[data-name="{method}"] canvas[data-plane="{plane}"]').evaluate("c => c.toDataURL()")


def settle(page):
    """Two frames: drawing waits for the next one."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def by_keyboard(page, slider, key, times=1):
    page.locator(f"#{slider}").focus()
    for _ in range(times):
        page.keyboard.press(key)
    settle(page)


@pytest.mark.parametrize(("slider", "plane"), [("z", "axial"), ("y", "coronal"), ("x", "sagittal")])
def test_each_slider_moves_its_plane_in_every_method(opened, slider, plane):
    page = opened()
    before = {method: picture(page, method, plane) for method in ("none", "chang", "uniform", "truth")}
    profile = page.locator("#profile").inner_html()
    by_keyboard(page, slider, "ArrowRight", 2)
    for method, old in before.items():
        assert picture(page, method, plane) != old
    assert f"{slider} = " in page.locator(f'.method canvas[data-plane="{plane}"]').first.get_attribute("aria-label")
    assert page.locator("#profile").inner_html() != profile


def test_a_click_moves_the_cross_hair_of_all_pictures(opened):
    page = opened()
    canvas = page.locator('.method[data-name="none"] canvas[data-plane="axial"]')
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    before = picture(page, "truth", "sagittal")
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    settle(page)
    assert picture(page, "truth", "sagittal") != before
    # A quarter of the way from the patient's right, which is at negative x, and from the front, at negative y.
    assert page.locator("#x").evaluate("s => s.value / s.max") == pytest.approx(0.25, abs=0.05)
    assert page.locator("#y").evaluate("s => s.value / s.max") == pytest.approx(0.25, abs=0.05)


def test_the_value_under_the_cross_hair_is_that_of_the_picture(opened):
    page = opened()
    value = float(page.locator('.method[data-name="truth"] figcaption').inner_text().split()[0])
    found = page.evaluate(
        """async () => {
        const data = JSON.parse(document.getElementById("data").textContent), v = data.volumes;
        const packed = Uint8Array.from(atob(document.getElementById("pack").textContent), (c) => c.charCodeAt(0));
        const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
        const levels = new Uint8Array(await new Response(stream).arrayBuffer());
        const [z, y, x] = ["z", "y", "x"].map((id) => Number(document.getElementById(id).value));
        const one = v.images.truth, size = v.shape[0] * v.shape[1] * v.shape[2];
        const at = one.begin + (z * v.shape[1] + y) * v.shape[2] + x;
        return one.low + one.step * (levels[at] * 256 + levels[at + size]);
        }"""
    )
    assert value == pytest.approx(found, rel=0.02)
    assert found > 0


HOTTEST = """async () => {
    const data = JSON.parse(document.getElementById("data").textContent), v = data.volumes, one = v.images.truth;
    const packed = Uint8Array.from(atob(document.getElementById("pack").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const levels = new Uint8Array(await new Response(stream).arrayBuffer());
    const [nz, ny, nx] = v.shape, size = nz * ny * nx;
    let best = 0, most = -1;
    for (let n = 0; n < size; n++) {
        const level = levels[one.begin + n] * 256 + levels[one.begin + size + n];
        if (level > most) { most = level; best = n; }
    }
    const place = [Math.floor(best / (ny * nx)), Math.floor(best / nx) % ny, best % nx];
    ["z", "y", "x"].forEach((id, n) => {
        document.getElementById(id).value = place[n];
        document.getElementById(id).dispatchEvent(new Event("input"));
    });
    return [place, v.shape];
}"""
"""Puts the cross-hair on the truth's hottest voxel; its index and the shape (z, y, x)."""


@pytest.mark.parametrize(("plane", "across", "down"), [("axial", 2, 1), ("coronal", 2, 0), ("sagittal", 1, 0)])
def test_a_hot_voxel_shines_where_it_lies(opened, plane, across, down):
    """Left at the right, front at the top and at the sagittal's left, top at the top; not in the mirror's place."""
    page = opened()
    place, shape = page.evaluate(HOTTEST)
    settle(page)
    share_across = (place[across] + 0.5) / shape[across]
    share_down = (place[down] + 0.5) / shape[down]
    if down == 0:  # z grows to superior, which is up
        share_down = 1.0 - share_down
    shine = """(canvas, [across, down]) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        const pixel = context.getImageData(across * canvas.width, down * canvas.height, 1, 1).data;
        return pixel[0] + pixel[1] + pixel[2];
    }"""
    canvas = page.locator(f'.method[data-name="truth"] canvas[data-plane="{plane}"]')
    there = canvas.evaluate(shine, [share_across, share_down])
    assert there > 550
    assert canvas.evaluate(shine, [share_across, 1.0 - share_down]) < 0.7 * there


def test_difference_and_maps_are_other_pictures(opened):
    page = opened()
    activity = picture(page, "uniform", "axial")
    page.select_option("#show", label="difference to truth")
    settle(page)
    difference = picture(page, "uniform", "axial")
    assert page.locator('.method[data-name="truth"] figcaption').inner_text() == "the reference"
    page.select_option("#show", "map")
    settle(page)
    assert len({activity, difference, picture(page, "uniform", "axial")}) == 3
    assert page.locator('.method[data-name="none"] figcaption').inner_text() == "no map"
    assert "1/cm" in page.locator("#bar-high").inner_text()
    by_keyboard(page, "top", "ArrowLeft", 20)
    assert page.locator("#top-said").inner_text() == "80 %"


def test_the_strip_moves_through_views_rows_and_windows(opened):
    page = opened()

    def shown():
        return [page.locator(f"#{name}").evaluate("c => c.toDataURL()") for name in ("projection", "sinogram")]

    seen = [shown()]
    by_keyboard(page, "view", "ArrowRight", 7)
    seen.append(shown())
    by_keyboard(page, "row", "ArrowRight", 3)
    seen.append(shown())
    page.select_option("#window", index=1)
    settle(page)
    seen.append(shown())
    for before, after in pairwise(seen):
        assert before[0] != after[0]
        assert before[1] != after[1]
    assert "lower" in page.locator("#sinogram").get_attribute("aria-label")


def test_on_a_phone_nothing_is_wider_than_the_screen(opened):
    page = opened(PHONE, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for slider in ("z", "view", "top"):
        box = page.locator(f"#{slider}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]


def test_dark_and_light_follow_the_reader(opened):
    def lightness(scheme):
        page = opened(color_scheme=scheme)
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        return [sum(int(part) for part in colour[4:-1].split(",")) for colour in colours]

    light, dark = lightness("light"), lightness("dark")
    assert light[0] > 700 > 150 > light[1]
    assert dark[0] < 150 < 600 < dark[1]


def test_printed_it_is_black_on_white_without_controls(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#z").is_visible()
    assert page.locator("#result table").is_visible()
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 50_000


def test_printed_it_shows_all_that_can_be_chosen(opened):
    page = opened()
    choices = page.locator("#show option").all_inner_texts()
    pictures = "(place) => [...document.querySelectorAll(place + ' canvas')].map((one) => one.toDataURL())"
    shown = {}
    for choice in (*choices[1:], choices[0]):
        before = page.evaluate(pictures, "#methods")
        page.locator("#show").select_option(label=choice)
        page.wait_for_function(
            "(before) => document.querySelector('#methods canvas').toDataURL() !== before", arg=before[0]
        )
        shown[choice] = page.evaluate(pictures, "#methods")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#shown").inner_text() == choices[0]
    assert page.locator("#printed > h3").all_inner_texts() == choices[1:]
    assert page.evaluate(pictures, "#printed .methods") == [one for choice in choices[1:] for one in shown[choice]]
    assert page.evaluate(pictures, "#methods") == shown[choices[0]]
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#printed > *").count() == 0
    page.emulate_media(media="screen")
    assert not page.locator("#shown").is_visible()


def test_everything_can_be_reached_by_the_tab_key(opened):
    page = opened()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    assert {
        "window",
        "view",
        "row",
        "show",
        "z",
        "y",
        "x",
        "top",
        "along",
        "Main measures",
        "All regions and ratios",
    } <= reached


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_axe_finds_no_serious_issue(opened, viewport, scheme):
    if not AXE.is_file():
        pytest.skip("axe-core is not there: npm install axe-core, and its axe.min.js in SPECTAC_AXE")
    page = opened(viewport, color_scheme=scheme, bypass_csp=True)
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")
    serious = [
        f"{one['id']}: {one['help']} ({len(one['nodes'])})" for one in found if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert [one["id"] for one in found] == []
