#!/usr/bin/env python3
"""The report that README shows: runs experiments/slow_link.yaml on two CPU ranks, writes experiments/pictures/slow_link.html, and with chromium its
picture, slow_link_report.png.

draw_report.py      Environment: DOVETAIL_BIN, the executable. cli.Reports tells when the page's structure is no longer what report.py writes.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from chromium import PROGRAM, Chromium

TOP = Path(__file__).resolve().parents[2]
PICTURES = TOP / "experiments" / "pictures"
WIDTH, HEIGHT = 1000, 1090


def main():
    dovetail = Path(os.environ.get("DOVETAIL_BIN", TOP / "build/bin/dovetail")).resolve()
    with tempfile.TemporaryDirectory(prefix="dovetail-draw-") as folder:
        run = Path(folder) / "slow"
        environment = {**os.environ, "DOVETAIL_BIN": str(dovetail)}
        subprocess.run([TOP / "launch/run_local.sh", "2", "run", "experiments/slow_link.yaml", "--out", run], cwd=TOP, env=environment, check=True)
        subprocess.run([sys.executable, TOP / "launch/report.py", run], cwd=TOP, env=environment, check=True)
        text = (run / "report.html").read_text()
    # No folder of this machine.
    for path, name in ((dovetail, "build/bin/dovetail"), (run, "results/slow"), (TOP, ".")):
        text = text.replace(str(path), name)
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
