#!/usr/bin/env python3
"""launch/plot.py on real runs: the pictures are made, show what was recorded, and name an emulated link.

plot_test.py [unittest arguments]; cli.py has the environment. Needs matplotlib beside h5py; without it everything but the message about
that is skipped.
"""
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import unittest
import venv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import h5py
import numpy as np

from cli import BIN, MPIRUN, TOP, execute
from sweep_case import BASE, LINK

PLOT = TOP / "launch" / "plot.py"
sys.path.insert(0, str(PLOT.parent))
import result_files  # noqa: E402

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
NAMES = ["step_time", "hidden_share", "timeline"]


def plot(*arguments, **environment):
    os.environ.update(environment)
    try:
        return execute([sys.executable, str(PLOT), *map(str, arguments)])
    finally:
        for name in environment:
            os.environ.pop(name)


def texts(path):
    return [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text") if element.text]


@unittest.skipUnless(HAS_MATPLOTLIB, "matplotlib is not installed")
class Plots(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="dovetail-plot-"))
        axes = "sweep:\n  workload.requests.count: [1, 2, 9]\n"
        timing = ["--set", "record.timing=ops", "--set", "execution.link={latency_us: 20, gbytes_per_s: 0.5}"]
        for name, end, arguments in (("sweep", axes, timing), ("run", "", timing), ("untimed", "", [])):
            file = cls.folder / f"{name}.yaml"
            file.write_text(BASE + end)
            outcome = execute([*MPIRUN, "-np", "2", BIN, "run", str(file), "--out", str(cls.folder / name), *arguments])
            assert outcome.code == 0, str(outcome)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def pictures(self, name, kind, *arguments, made=NAMES):
        out = self.folder / f"{name}-{kind}"
        outcome = plot(self.folder / name, "--out", out, "--format", kind, *arguments)
        self.assertEqual(outcome.code, 0, str(outcome))
        paths = [out / f"{one}.{kind}" for one in made]
        self.assertEqual(outcome.out.split(), [str(path) for path in paths])
        self.assertEqual(sorted(out.iterdir()), sorted(paths))
        for path in paths:
            self.assertLess(path.stat().st_size, 100_000, path)
        return paths

    def test_every_picture_names_policies_and_the_emulated_link(self):
        for name in ("sweep", "run"):
            for path in self.pictures(name, "svg"):
                found = texts(path)
                self.assertIn(f"link {LINK}", found, path)
                self.assertIn("2 ranks, expert parallel 2, cpu, float32", found, path)
                for policy in ("sequential", "dual_batch"):
                    self.assertTrue(any(text.startswith(policy) for text in found), f"{path}: {found}")

    def test_without_a_link_or_profiled_steps(self):
        (path,) = self.pictures("untimed", "svg", made=["step_time"])
        self.assertFalse(any("link" in text for text in texts(path)), texts(path))

    def test_the_timeline_has_lanes_ubatches_and_phases(self):
        found = texts(self.pictures("run", "svg")[2])
        for expected in ("rank 0 compute", "rank 1 comm", "ubatch 0", "ubatch 1"):
            self.assertIn(expected, found)
        self.assertIn("waiting for the last rank", found)
        # Which phases are wide enough for a label depends on their times.
        self.assertTrue({"attention", "att", "experts", "exp", "dispatch", "dis", "combine", "com"} & set(found), found)
        shorter = texts(self.pictures("run", "svg", "--layers", "1")[2])
        self.assertTrue(any("layers 0 to 0 of" in text for text in shorter), shorter)

    def test_what_no_axis_changes_is_drawn_once(self):
        file = self.folder / "ubatches.yaml"
        file.write_text(BASE + "sweep:\n  workload.requests.count: [1, 2]\n  policies.dual_batch.ubatches: [2, 3]\n")
        outcome = execute([*MPIRUN, "-np", "2", BIN, "run", str(file), "--out", str(self.folder / "ubatches")])
        self.assertEqual(outcome.code, 0, str(outcome))
        (path,) = self.pictures("ubatches", "svg", made=["step_time"])
        self.assertEqual(sorted(text for text in texts(path) if text.startswith(("sequential", "dual_batch"))),
                         ["dual_batch, ubatches 2", "dual_batch, ubatches 3", "sequential"])
        series = result_files.Series(self.folder / "ubatches")
        self.assertEqual({label: len(policies) for label, policies in series.lines.items()},
                         {"sequential": 2, "dual_batch, ubatches 2": 2, "dual_batch, ubatches 3": 2})

    def test_waiting_ends_when_the_last_rank_has_come(self):
        policy = result_files.Policy(self.folder / "run" / "dual_batch")
        ranks = policy.profiled_step()
        exchanges = [{tuple(op.values()): one for op, *one in rank if op["phase"] in ("dispatch", "combine")} for rank in ranks]
        self.assertEqual(exchanges[0].keys(), exchanges[1].keys())
        self.assertTrue(exchanges[0])
        for key, (start, moving, end) in exchanges[0].items():
            last = max(start, exchanges[1][key][0])
            self.assertAlmostEqual(moving, min(last, end))
        self.assertTrue(all(start == moving for rank in ranks for op, start, moving, _ in rank if op["lane"] == "compute"))

    def test_pixels(self):
        from matplotlib.image import imread
        for name in ("sweep", "run"):
            for path in self.pictures(name, "png"):
                pixels = imread(path)
                self.assertGreater(pixels.shape[1], 400)
                self.assertGreater(len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)), 20, path)

    def test_the_numbers_are_those_of_the_record(self):
        policy = result_files.Policy(self.folder / "run" / "dual_batch")
        summary = json.loads((policy.folder / "summary.json").read_text())
        times = []
        for path in policy.files:
            with h5py.File(path) as file:
                times.append(file["timing/step_ns"][:])
        iterations = np.max(times, axis=0).mean(axis=1)
        self.assertAlmostEqual(np.median(iterations), summary["step_ns"]["p50"])
        self.assertEqual(len(iterations), summary["step_ns"]["count"])
        self.assertEqual(policy.tokens(), 24)
        steps = policy.profiled_step()
        self.assertEqual(len(steps), 2)
        with h5py.File(policy.folder / "rank-00001.h5") as file:
            ops, times = file["schedule/0"][:], file["timing/ops"][:]
        self.assertEqual(len(steps[1]), len(ops))
        lengths = [end - start for _, start, _, end in steps[1]]
        recorded = (times[:, :, 1] - times[:, :, 0]) / 1e6
        self.assertTrue(any(np.allclose(lengths, one, atol=1e-9, rtol=1e-6) for one in recorded), "one of the profiled steps")
        self.assertEqual(min(start for rank in steps for _, start, *_ in rank), 0)
        self.assertEqual([op["phase"] for op, *_ in steps[1]], [result_files.text_of(op["phase"]) for op in ops])
        series = result_files.Series(self.folder / "sweep")
        self.assertTrue(series.is_sweep)
        self.assertEqual({label: [series.x_of(one) for one in policies] for label, policies in series.lines.items()},
                         {"sequential": [12, 24, 108], "dual_batch": [12, 24, 108]})

    def changed(self, name, change):
        """A copy of a run or sweep in which every summary of dual_batch is another."""
        folder = self.folder / f"{name}-changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / name, folder)
        for path in folder.glob("**/dual_batch/summary.json"):
            summary = json.loads(path.read_text())
            change(summary)
            path.write_text(json.dumps(summary))
        return result_files.Series(folder)

    def test_an_interval_is_drawn_as_it_is_printed(self):
        import figures
        times, ratios = [2.5e9, 3.5e9], [40.0, 60.0]  # far above the medians

        def change(summary):
            summary.update(step_ns_interval=times, speed_up_interval=ratios)

        for draw, ends in ((figures.plot_step_time, [end / 1e6 for end in times]), (figures.plot_speed_up, ratios)):
            (axes,) = draw(self.changed("run", change)).axes
            drawn = [segment[:, 0] for lines in axes.collections for segment in lines.get_segments()]
            self.assertTrue(any(np.allclose(one, ends) for one in drawn), f"{draw.__name__}: {drawn}")
            (axes,) = draw(self.changed("sweep", change)).axes
            bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections if hasattr(band, "get_paths")]
            self.assertTrue(any(np.allclose([band.min(), band.max()], ends) for band in bands), draw.__name__)

    def test_terms_have_marks_and_a_legend_of_what_is_there(self):
        import figures
        def change(summary):
            summary["metrics"].update(measured_ns=2e9, ideal_ns=1.5e9)
            summary["metrics"]["terms_ns"].update(hand_off=400.0, launch=600.0, launch_gaps=None)

        (axes,) = figures.plot_terms(self.changed("run", change)).axes
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        self.assertEqual(names[-2:], ["p50", "ideal"])
        self.assertIn("launch", names)
        for absent in ("hand-off", "launch gaps", "SMs left out", "sms left out"):
            self.assertNotIn(absent, names)
        marks = sorted(line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() in "dv")
        self.assertEqual(len(marks), 4)
        self.assertEqual(marks[-2:], [1500.0, 2000.0])

    def test_terms_can_be_told_apart(self):
        import itertools
        import figures

        def lab(colour):
            """CIE L*a*b*, in which a distance of 2 can just be seen side by side."""
            red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055)**2.4 for one in (int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)))
            xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ [red, green, blue] / [0.9505, 1, 1.089]
            x, y, z = (one**(1 / 3) if one > 0.008856 else 7.787 * one + 16 / 116 for one in xyz)
            return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

        for (one, colour), (other, its) in itertools.combinations(figures.TERMS.items(), 2):
            self.assertGreater(np.linalg.norm(lab(colour) - lab(its)), 15, f"{one}, {other}")

    def test_bad_input(self):
        empty = self.folder / "empty"
        empty.mkdir()
        damaged = self.folder / "damaged"
        shutil.copytree(self.folder / "run", damaged)
        (damaged / "dual_batch" / "summary.json").write_text("{")
        for expected, arguments in (("no such folder", [self.folder / "none"]), ("no policy with valid times", [empty]),
                                    ("summary.json", [damaged]), ("--layers", [self.folder / "run", "--layers", "0"])):
            outcome = plot(*arguments)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertRegex(outcome.err, f"^plot: .*{expected}")
        self.assertEqual(plot(self.folder / "run", "--format", "gif").code, 2)

    def test_a_damaged_rank_file_is_named(self):
        for name, damage in (("cut", lambda path: os.truncate(path, 2000)), ("other", lambda path: path.write_text("no HDF5 file")),
                             ("pipe", lambda path: (path.unlink(), os.mkfifo(path)))):
            damaged = self.folder / name
            shutil.copytree(self.folder / "run", damaged)
            path = damaged / "dual_batch" / "rank-00001.h5"
            damage(path)
            outcome = plot(damaged)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertTrue(outcome.err.startswith(f"plot: {path}: "), outcome.err)


class PlotPackages(unittest.TestCase):
    def test_missing_ones_are_named(self):
        for missing in (["matplotlib"], ["h5py", "matplotlib"]):
            with tempfile.TemporaryDirectory(prefix="dovetail-plot-") as folder:
                for name in missing:
                    (Path(folder) / f"{name}.py").write_text("raise ImportError\n")
                outcome = execute(["/usr/bin/python3", str(PLOT), folder], environment={"PYTHONPATH": folder})
            packages = " ".join(f"python3-{name}" for name in missing)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertEqual(outcome.err, f"plot: /usr/bin/python3 has no {', no '.join(missing)}; to go on: apt-get install {packages} (Debian), or start "
                             "plot.py with a Python that has them\n")

    @unittest.skipUnless(execute(["/usr/bin/python3", "-c", "import h5py, matplotlib"]).code == 0, "the system's Python has no packages")
    def test_a_python_without_them_hands_over_to_that_of_the_system(self):
        with tempfile.TemporaryDirectory(prefix="dovetail-plot-") as folder:
            venv.create(folder, with_pip=False)
            outcome = execute([f"{folder}/bin/python", str(PLOT), folder])
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertNotIn("has no", outcome.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
