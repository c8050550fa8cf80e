#!/usr/bin/env python3
"""The report that README shows: runs experiments/slow_link.yaml on two CPU ranks, or takes a run of it that was made on a quiet machine, and writes
experiments/pictures/slow_link.html, and with chromium its picture, slow_link_report.png.

draw_report.py [RUN_DIR]      Environment: DOVETAIL_BIN, the executable. cli.Reports tells when the page is no longer made as report.py makes it.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from chromium import PROGRAM, Chromium

TOP = Path(__file__).resolve().parents[2]
PICTURES = TOP / "experiments" / "pictures"
WIDTH, HEIGHT = 1000, 1210


def write_report(folder, dovetail):
    """The text of the page of a run: of RUN_DIR, or of one that is made in `folder`. It names no folder of this machine."""
    environment = {**os.environ, "DOVETAIL_BIN": str(dovetail)}
    run = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else folder / "slow"
    if not run.exists():
        subprocess.run([TOP / "launch/run_local.sh", "2", "run", "experiments/slow_link.yaml", "--out", run], cwd=TOP, env=environment, check=True)
    page = folder / "report.html"
    subprocess.run([sys.executable, TOP / "launch/report.py", run, "--out", page], cwd=TOP, env=environment, check=True)
    text = re.sub(r"/[^\s<>]*/(build/bin/dovetail)", r"\1", page.read_text())
    return text.replace(str(run), "results/slow")


def main():
    dovetail = Path(os.environ.get("DOVETAIL_BIN", TOP / "build/bin/dovetail")).resolve()
    with tempfile.TemporaryDirectory(prefix="dovetail-draw-") as folder:
        text = write_report(Path(folder), dovetail)
    page = PICTURES / "slow_link.html"
    page.write_text(text)
    print(page)
    if PROGRAM:
        with Chromium() as browser:
            browser.open(page, WIDTH, height=HEIGHT)
            (PICTURES / "slow_link_report.png").write_bytes(browser.picture(whole=False))
        print(PICTURES / "slow_link_report.png")


if __name__ == "__main__":
    main()
