#!/usr/bin/env python3
"""Reports in a real browser: no errors, every figure has a size, no page is wider than its window, zoom and print work, in light and in dark.

browser_test.py [unittest arguments]; tests/mpi/cli.py has the environment. DOVETAIL_LONG_TESTS=1 asks for it; it needs chromium, and what report.py
needs.
"""
import os
import re
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mpi"))
from chromium import PROGRAM, Chromium  # noqa: E402
from report_test import AXES, BASE, FIGURES, MISSING, TIMED, make_run, report  # noqa: E402

WIDTHS = (360, 768, 1600)
SCHEMES = ("light", "dark")
SIZES = """[...document.querySelectorAll("svg[role=img]")].map(svg => [svg.id, svg.getBoundingClientRect().width, svg.getBoundingClientRect().height])"""
OVERFLOW = """[...document.querySelectorAll("body *")].filter(one => !one.closest(".scroll, .timeline, pre, svg") && one.tagName != "SCRIPT"
  && one.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(one => one.tagName + "#" + one.id)
  .concat(document.documentElement.scrollWidth > document.documentElement.clientWidth ? ["page"] : [])"""
COLOURS = """[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
  (text => text ? getComputedStyle(text).fill : getComputedStyle(document.body).color)(document.querySelector("svg[role=img] text"))]"""


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def problems_of(browser, page, width, scheme):
    """What is wrong with a page in a window, a text each."""
    browser.errors.clear()
    browser.open(page, width, scheme=scheme)
    found = [f"wider than the window: {one}" for one in browser.value(OVERFLOW)]
    found += [f"{name} has no size" for name, wide, high in browser.value(SIZES) if wide < 100 or high < 50]
    back, ink, picture = map(brightness, browser.value(COLOURS))
    if (back < 128) != (scheme == "dark") or abs(back - ink) < 120 or abs(back - picture) < 120:
        found.append(f"colours do not follow {scheme}: {back}, {ink}, {picture}")
    return found + browser.errors


class ReportPages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="dovetail-browser-"))
        run = make_run(cls.folder, "run", *TIMED)
        sweep = make_run(cls.folder, "sweep", *TIMED[:2], "--set", "execution.link.latency_us=20", base=BASE + AXES)
        failed = make_run(cls.folder, "failed", "--set", "fault={kind: exception, rank: 1, phase: attention, iteration: 3, policy: dual_batch}", code=3)
        cls.pages = {}
        for folder in (run, sweep, failed):
            outcome = report(folder)
            assert outcome.code == 0, str(outcome)
            cls.pages[folder.name] = folder / "report.html"
        cls.browser = Chromium()

    @classmethod
    def tearDownClass(cls):
        cls.browser.__exit__()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def test_every_width_light_and_dark(self):
        for name, page in self.pages.items():
            for width in WIDTHS:
                for scheme in SCHEMES:
                    self.assertEqual(problems_of(self.browser, page, width, scheme), [], f"{name}, {width} px, {scheme}")
        self.browser.open(self.pages["run"], 1600)
        self.assertEqual({name for name, _, _ in self.browser.value(SIZES)}, set(FIGURES))

    def test_zoom(self):
        self.browser.open(self.pages["run"], 768)
        width = "document.querySelector('#timeline').getBoundingClientRect().width"
        before = self.browser.value(width)
        self.assertTrue(self.browser.value("!document.querySelector('.zoom').hidden"))
        self.browser.value("document.querySelector('[data-zoom=\"4\"]').click()")
        self.assertGreater(self.browser.value(width), 3.5 * min(before, 738))
        self.assertEqual(self.browser.value(OVERFLOW), [])

    def test_without_scripts_the_picture_is_there(self):
        page = self.folder / "static.html"
        page.write_text(re.sub(r"<script>.*?</script>", "", self.pages["run"].read_text(), flags=re.DOTALL))
        self.assertEqual(problems_of(self.browser, page, 768, "light"), [])
        self.assertTrue(self.browser.value("document.querySelector('.zoom').hidden"))

    def test_print(self):
        for name, page in self.pages.items():
            for scheme in SCHEMES:
                self.browser.open(page, 768, scheme=scheme)
                pdf = self.browser.pdf()
                self.assertTrue(pdf.startswith(b"%PDF-"), name)
                self.assertGreater(len(pdf), 20_000)
                self.assertEqual(brightness(self.browser.value("getComputedStyle(document.body).backgroundColor")), 255)

    def test_planted_faults_are_found(self):
        text = self.pages["run"].read_text()
        for expected, fault in (("planted", "<script>throw new Error('planted')</script>"), ("planted", "<script>console.error('planted')</script>"),
                                ("wider than the window", "<div style='width: 2000px'>.</div>"),
                                ("step_time has no size", "<style>#step_time { height: 0 !important }</style>"),
                                ("asked for", "<img src='http://127.0.0.1:9/picture.png' width='9' alt=''>"),
                                ("colours do not follow", "<style>svg text { fill: #ffffff !important }</style>")):
            page = self.folder / "planted.html"
            page.write_text(text.replace("</body>", fault + "</body>"))
            found = problems_of(self.browser, page, 360, "light")
            self.assertTrue(any(expected in one for one in found), f"{expected}: {found}")


if __name__ == "__main__":
    lacks = "DOVETAIL_LONG_TESTS is not 1" if os.environ.get("DOVETAIL_LONG_TESTS") != "1" else \
        "chromium is not installed (apt-get install chromium)" if not PROGRAM else f"not installed: {', '.join(MISSING)}" if MISSING else ""
    if lacks:
        print(f"SKIPPED: {lacks}")
        sys.exit(0)
    unittest.main(verbosity=2)
