#!/usr/bin/env python3
"""The picture of the report that README shows: writes experiments/pictures/slow_link_report.png, the top of slow_link.html beside it. That page is
written with the outputs of README, of the same run: DOVETAIL_UPDATE_README=1 ctest -R docs.README. Needs chromium.

draw_report.py      cli.Reports tells when the page is no longer made as report.py makes it.
"""
import sys
from pathlib import Path

from chromium import PROGRAM, Chromium

PICTURES = Path(__file__).resolve().parents[2] / "experiments" / "pictures"
WIDTH, HEIGHT = 1000, 1210


def main():
    if not PROGRAM:
        sys.exit("draw_report: chromium is not installed (apt-get install chromium)")
    with Chromium() as browser:
        browser.open(PICTURES / "slow_link.html", WIDTH, height=HEIGHT)
        (PICTURES / "slow_link_report.png").write_bytes(browser.picture(whole=False))
    print(PICTURES / "slow_link_report.png")


if __name__ == "__main__":
    main()
