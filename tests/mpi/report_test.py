#!/usr/bin/env python3
"""launch/report.py and launch/dovetail_results.py on real runs: the page says what the files say, first what is wrong, and needs nothing else.

report_test.py [unittest arguments]; cli.py has the environment. Needs matplotlib, pandas and jinja2 beside h5py; without them it is skipped.
"""
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

import h5py

from cli import BIN, MPIRUN, TOP, execute
from sweep_case import BASE

REPORT = TOP / "launch" / "report.py"
MISSING = [name for name in ("matplotlib", "pandas", "jinja2") if importlib.util.find_spec(name) is None]
FIGURES = ["step_time", "speed_up", "terms", "hidden_share", "traffic", "experts", "timeline"]
WRITE = "to write it: DOVETAIL_UPDATE_README=1 ctest -R docs.README, then tests/browser/draw_report.py"
VOID = {"meta", "link", "br"}


def report(*arguments, **environment):
    return execute([sys.executable, "-B", str(REPORT), *map(str, arguments)], environment=environment)


class Page(HTMLParser):
    """A page that is well-formed: its text, the ids of its elements, what it refers to, and its tables by section."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.words, self.ids, self.references, self.tables = [], [], [], [], {}
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.references += [value for name, value in attributes.items() if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))
        if tag == "tr":
            self.rows().append([])
        elif tag in ("td", "th"):
            self.rows()[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> in {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] not in ("style", "script"):
            self.words.append(data)
        if self.open and self.open[-1][0] in ("td", "th"):
            self.rows()[-1][-1] += data.strip()

    def rows(self):
        section = next(name for tag, name in reversed(self.open) if tag == "section")
        return self.tables.setdefault(section, [])

    def records(self, section):
        head, *rows = self.tables[section]
        return [dict(zip(head, row)) for row in rows]


def make_run(folder, name, *arguments, base=BASE, code=0):
    file = folder / f"{name}.yaml"
    file.write_text(base)
    outcome = execute([*MPIRUN, "-np", "2", BIN, "run", str(file), "--out", str(folder / name), "--set", "execution.iterations=12", *arguments])
    assert outcome.code == code, str(outcome)
    return folder / name


TIMED = ["--set", "record.timing=ops", "--set", "execution.link={latency_us: 20, gbytes_per_s: 0.5}"]
AXES = "sweep:\n  execution.link.gbytes_per_s: [0.5, 5]\n  workload.requests.count: [1, 3]\n"


@unittest.skipIf(MISSING, f"not installed: {', '.join(MISSING)}")
class Reports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="dovetail-report-"))
        cls.run_folder = make_run(cls.folder, "run", *TIMED)
        cls.sweep_folder = make_run(cls.folder, "sweep", *TIMED[:2], "--set", "execution.link.latency_us=20", base=BASE + AXES)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def page(self, folder, **environment):
        outcome = report(folder, "--overwrite", **environment)
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertEqual(outcome.out, f"{folder}/report.html\n")
        return Page((folder / "report.html").read_text())

    def warnings(self, page):
        return page.text.split(" Verdicts ")[0]

    def test_a_run_shows_what_its_summaries_say(self):
        page = self.page(self.run_folder)
        for figure in FIGURES:
            self.assertIn(figure, page.ids)
        self.assertEqual(len(page.ids), len(set(page.ids)), "an id twice")
        self.assertEqual([(row["policy"], row["verdict"]) for row in page.records("verdicts")], [("sequential", "baseline"), ("dual_batch", "verified")])
        for row in page.records("times"):
            summary = json.loads((self.run_folder / row["policy"] / "summary.json").read_text())
            self.assertEqual(row["p50 [ms]"], f"{summary['step_ns']['p50'] / 1e6:.3f}")
            self.assertEqual(row["speed-up"], f"{summary['speed_up']:.2f}")
            self.assertEqual(row["hidden"], f"{100 * summary['metrics']['hidden_share']:.1f} %")
            ends = summary["speed_up_interval"]
            self.assertEqual(row["95 %"], "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}")
        self.assertIn("Link emulated: 20 us, 0.5 GB/s", page.text)
        self.assertIn("latency_us: 20", page.text)

    def test_nothing_is_loaded_from_elsewhere(self):
        for folder in (self.run_folder, self.sweep_folder):
            page = self.page(folder)
            self.assertTrue(all(reference.startswith(("#", "data:")) for reference in page.references), page.references)
            text = (folder / "report.html").read_text()
            self.assertNotIn("@import", text)
            self.assertFalse(re.search(r"url\((?!#)", text))
            self.assertLess(len(text), 300_000)

    def test_a_sweep_has_curves_and_the_map(self):
        page = self.page(self.sweep_folder)
        self.assertIn("step_time", page.ids)
        self.assertEqual(len(page.records("verdicts")), 8)
        head, *rows = page.tables["break_even"]
        self.assertEqual(head, ["", "1", "3"])
        self.assertEqual([row[0] for row in rows], ["0.5", "5"])
        points = json.loads((self.sweep_folder / "sweep.json").read_text())["points"]
        expected = [next(f"{policy['speed_up']:.2f}" for policy in point["policies"] if policy["policy"] == "dual_batch") for point in points]
        self.assertEqual([cell.split()[-1] for row in rows for cell in row[1:]], expected)

    def test_the_map_claims_what_compare_claims(self):
        folder = self.folder / "claims"
        shutil.copytree(self.sweep_folder, folder)
        cases = ((None, 1.7, [1.5, 2], "?"), (True, 1.7, [1.5, 2], "+"), (False, 1.1, [0.9, 1.2], "="), (True, 0.6, [0.5, 0.7], "-"))
        for point, (counts, speed_up, interval, _) in enumerate(cases):
            path = folder / f"point-{point:04}/dual_batch/summary.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "speed_up": speed_up, "speed_up_counts": counts, "speed_up_interval": interval}))
        rows = self.page(folder).tables["break_even"][1:]
        self.assertEqual([cell.split()[0] for row in rows for cell in row[1:]], [sign for *_, sign in cases])

    def test_what_is_wrong_stands_first(self):
        flipped = "fault={kind: flipped_element, rank: 1, phase: attention, iteration: 11}"
        throwing = "fault={kind: exception, rank: 1, phase: attention, iteration: 3}"
        unverified = BASE.replace("verify: {baseline: sequential, mode: tolerance}\n", "")
        for name, arguments, base, code, expected in (
                ("mismatch", ["--set", flipped, "--allow-fault", "flipped_element"], BASE, 4, ["mismatch", "a fault was injected"]),
                ("failed", ["--set", throwing, "--set", "execution.rounds=1"], BASE, 3, ["failed", "injected fault", "not run"]),
                ("unverified", [], unverified, 0, ["not verified"])):
            folder = make_run(self.folder, name, *arguments, base=base, code=code)
            found = self.warnings(self.page(folder))
            for words in expected:
                self.assertIn(words, found, name)
        self.assertNotRegex(self.warnings(self.page(self.run_folder)), "mismatch|failed|not verified|injected|was not found")

    def noting(self, change):
        """A dovetail that says what the built one says, but for the JSON of a comparison: that is `told`, which a line of Python changes."""
        fake = self.folder / "dovetail"
        fake.write_text(f"#!{sys.executable}\nimport json, subprocess, sys\nprocess = subprocess.run(['{BIN}', *sys.argv[1:]], stdout=subprocess.PIPE, text=True)\n"
                        f"told = json.loads(process.stdout)\n{change}\nprint(json.dumps(told))\nsys.exit(process.returncode)\n")
        fake.chmod(0o755)
        return str(fake)

    def test_what_compare_notes_of_a_run_is_on_the_page(self):
        untimed = make_run(self.folder, "untimed")
        for folder in (untimed, self.run_folder):
            notes = json.loads(execute([BIN, "compare", str(folder), "--format", "json"]).out)["notes"]
            found = self.warnings(self.page(folder))
            for note in notes:
                self.assertIn(" ".join(note.split()), found)
        self.assertIn("no op was timed", self.warnings(self.page(untimed)), "what a run without times of ops is always told")
        planted = ["a <b>sentence</b> that no version says", "and another one"]
        found = self.warnings(self.page(self.run_folder, DOVETAIL_BIN=self.noting(f"told['notes'] = {planted}")))
        for note in planted:
            self.assertEqual(found.count(note), 1, note)

    def test_what_compare_notes_of_points_is_on_the_page(self):
        change = "\n".join(f"told['points'][{point}]['notes'] = {notes}" for point, notes in enumerate((["one"], ["two <i>", "one"], [], ["one"])))
        page = self.page(self.sweep_folder, DOVETAIL_BIN=self.noting(change))
        self.assertIn("points 0, 1, 3: one point 1: two <i>", self.warnings(page))
        change = "for point in told['points']:\n  point['notes'] = []\n  for policy in point['policies']: policy['flags'] = []\n"
        none = self.page(self.sweep_folder, DOVETAIL_BIN=self.noting(change))
        self.assertNotIn("warnings", none.ids)
        flags = "\n".join(f"told['points'][{point}]['policies'][{policy}]['flags'] = {flags}"
                          for point, policy, flags in ((0, 1, ["drift"]), (2, 1, ["drift", "not_quiet"]), (3, 0, ["drift"])))
        found = self.warnings(self.page(self.sweep_folder, DOVETAIL_BIN=self.noting(change + flags)))
        self.assertIn("drift: dual_batch at points 0, 2; sequential at point 3 not quiet: dual_batch at point 2", found)

    def test_a_sweep_tells_its_own_notes(self):
        told = json.loads(execute([BIN, "compare", str(self.sweep_folder), "--format", "json"]).out)
        found = self.warnings(self.page(self.sweep_folder))
        self.assertTrue(any(point["notes"] for point in told["points"]), "of two ranks the errors of their clocks are always said")
        for point in told["points"]:
            for note in point["notes"]:
                self.assertIn(" ".join(note.split()), found)

    def test_a_dovetail_that_tells_no_notes_is_refused(self):
        for folder, change in ((self.run_folder, "del told['notes']"), (self.sweep_folder, "del told['points'][1]['notes']")):
            outcome = report(folder, "--overwrite", DOVETAIL_BIN=self.noting(change))
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertRegex(outcome.err, "^report: .*dovetail compare tells no notes: .* build it anew\n$")

    def test_the_drift_of_each_policy_is_stated(self):
        for row in self.page(self.run_folder).records("times"):
            drift = json.loads((self.run_folder / row["policy"] / "summary.json").read_text())["drift"]["run"]
            change, low, high = (f"{100 * share:+.1f}" for share in (drift["change"], *drift["interval"]))
            self.assertEqual(row["drift [%]"], f"{change} ({low} to {high})")
        self.assertEqual(len(self.page(self.sweep_folder).records("times")), 8)
        self.assertTrue(all(row["drift [%]"].endswith(")") for row in self.page(self.sweep_folder).records("times")))

    def changed(self, name, change, policy="dual_batch"):
        """A copy of the run in which the summary of a policy is another."""
        folder = self.folder / name
        shutil.copytree(self.run_folder, folder)
        path = folder / policy / "summary.json"
        summary = json.loads(path.read_text())
        change(summary)
        path.write_text(json.dumps(summary))
        return folder

    def test_keys_that_later_versions_add_or_older_ones_lack(self):
        def change(summary):
            summary.update(step_ns_interval=[1e6, 2.5e6], rounds_ns={"began_ns": 1, "p50": [1.0, None]}, new={"key": [1, {"a": 2}]})
            summary["metrics"]["terms_ns"]["new_term"] = 1e5
            del summary["speed_up_interval"], summary["iterations"], summary["drift"], summary["before_ns"]

        row = self.page(self.changed("later", change)).records("times")[1]
        self.assertEqual((row["95 % [ms]"], row["95 %"], row["drift [%]"]), ("1.000 to 2.500", "-", "-"))

    def test_a_speed_up_says_how_it_was_computed(self):
        rounds, medians = "The geometric mean over rounds", "The p50 of the baseline over the own p50"
        page = self.page(self.run_folder)
        self.assertIn(rounds, page.text)
        self.assertNotIn(medians, page.text)
        single = self.page(make_run(self.folder, "single", "--set", "execution.rounds=1"))
        self.assertIn(medians, single.text)
        self.assertNotIn(rounds, single.text)

    def test_an_interval_is_of_this_run(self):
        for folder, words in ((self.run_folder, "the intervals of this run"), (self.sweep_folder, "the intervals of the run of each point")):
            self.assertIn(words, self.page(folder).text)

    def test_a_narrow_interval_has_decimals_that_tell_its_ends(self):
        for name, interval, shown in (("narrow", [1.0011, 1.0031], ("1.002", "1.001 to 1.003")), ("wide", [0.99, 1.02], ("1.00", "0.99 to 1.02"))):
            folder = self.changed(name, lambda summary: summary.update(speed_up=1.002, speed_up_interval=interval))
            row = self.page(folder).records("times")[1]
            self.assertEqual((row["speed-up"], row["95 %"]), shown)

    def test_what_comes_before_the_step_is_on_the_page(self):
        summary = json.loads((self.run_folder / "dual_batch" / "summary.json").read_text())
        before, p50 = summary["before_ns"], summary["step_ns"]["p50"]
        expected = [p50, before["agreement"], before["preparation"], p50 + before["agreement"] + before["preparation"], summary["metrics"]["ideal_ns"]]
        self.assertIn(["dual_batch", *(f"{time / 1e6:.3f}" for time in expected)], self.page(self.run_folder).tables["whole"])

    def test_a_file_is_replaced_on_request_only(self):
        out = self.folder / "one.html"
        out.write_text("mine")
        outcome = report(self.run_folder, "--out", out)
        self.assertEqual((outcome.code, outcome.err, out.read_text()), (2, f"report: {out} is there already; --overwrite replaces it\n", "mine"))
        self.assertEqual(report(self.run_folder, "--out", out, "--overwrite").code, 0)
        self.assertTrue(out.read_text().startswith("<!DOCTYPE html>"))

    def test_bad_input(self):
        empty, damaged = self.folder / "empty", self.folder / "damaged"
        empty.mkdir()
        shutil.copytree(self.run_folder, damaged)
        os.truncate(damaged / "dual_batch" / "rank-00001.h5", 2000)
        for expected, arguments in (("no such folder", [self.folder / "none"]), ("empty", [empty]), ("rank-00001.h5", [damaged, "--overwrite"]),
                                    ("--layers", [self.run_folder, "--layers", "0"])):
            outcome = report(*arguments)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertRegex(outcome.err, f"^report: .*{expected}")
            self.assertEqual(outcome.err.count("\n"), 1, outcome.err)

    def test_the_example_is_as_report_writes_it(self):
        example = Page((TOP / "experiments" / "pictures" / "slow_link.html").read_text())
        self.assertEqual(self.structure(example), self.structure(self.page(self.run_folder)), WRITE)
        self.assertNotRegex(example.text, r"(?<![\w.])/(?:work|home|tmp|root)/", "a folder of the machine that made it")
        readme = (TOP / "README.md").read_text()
        for row in example.records("times"):
            self.assertIn(f"policy {row['policy']} step_ms {row['p50 [ms]']} ", readme, "the page is of another run than README's text; " + WRITE)
        example.tables["times"][0].pop()
        self.assertNotEqual(self.structure(example), self.structure(self.page(self.run_folder)))

    @staticmethod
    def structure(page):
        """Sections, figures and heads of tables; not what numbers, the names of parts of figures, and the attributes of a run follow from."""
        ids = [name for name in page.ids if "-" not in name and name != "warnings"]
        return ids, {name: rows[0] for name, rows in page.tables.items() if name != "machine"}

    def test_the_key_that_a_sweep_is_drawn_over(self):
        sys.path.insert(0, str(REPORT.parent))
        from result_files import Series
        for expected, *values in ((None, {"workload.requests.count": 1, "execution.link.gbytes_per_s": 2}), (None, {"policies": ["a"]}),
                                  ("execution.link.gbytes_per_s", {"execution.link.gbytes_per_s": 1, "execution.graph": "none"}, {
                                      "execution.link.gbytes_per_s": 2, "execution.graph": "none"}), (None, {"policies.two.ubatches": 2})):
            self.assertEqual(Series.choose_axis([{"values": one} for one in values]), expected, values)

    def test_frames(self):
        sys.path.insert(0, str(REPORT.parent))
        import dovetail_results
        results = dovetail_results.load(self.run_folder)
        policies = results.policies().set_index("policy")
        summary = json.loads((self.run_folder / "dual_batch" / "summary.json").read_text())
        self.assertEqual(policies.loc["dual_batch", "verdict"], "verified")
        self.assertEqual(policies.loc["dual_batch", "step_ns.p50"], summary["step_ns"]["p50"])
        self.assertEqual(policies.loc["dual_batch", "traffic.dispatch_wire_bytes"], summary["traffic"]["dispatch_wire_bytes"])
        steps, ops = results.steps(), results.ops()
        with h5py.File(self.run_folder / "dual_batch" / "rank-00001.h5") as file:
            mine = steps[(steps.policy == "dual_batch") & (steps["rank"] == 1)]
            self.assertEqual(list(mine.step_ns), list(file["timing/step_ns"][:].ravel()))
            one = ops[(ops.policy == "dual_batch") & (ops["rank"] == 1) & (ops.profiled_step == 0)]
            recorded, offset = file["timing/ops"][0], int(file["timing"].attrs["clock_offset_ns"])
            self.assertEqual(list(one.start_ns), [start + offset for start, _ in recorded])
            self.assertEqual(list(one.end_ns), [end + offset for _, end in recorded])
            self.assertEqual(list(mine["round"]), list(file["timing/round"][:]))
        slowest = steps[steps.policy == "dual_batch"].groupby(["iteration", "step"]).step_ns.max()
        self.assertEqual(slowest.median(), summary["step_ns"]["p50"])
        traffic = results.traffic()
        self.assertEqual(traffic[traffic.policy == "dual_batch"]["rows"].sum(),
                         sum(map(sum, summary["traffic"]["tokens_per_expert"])))
        self.assertEqual(set(results.verdicts().tensor), {"", "hidden", "logits"})
        self.assertIn("latency_us: 20", results.config)
        swept = dovetail_results.load(self.sweep_folder).policies()
        self.assertEqual(list(swept["workload.requests.count"]), [1, 1, 3, 3, 1, 1, 3, 3])
        self.assertEqual(list(swept.point), [0, 0, 1, 1, 2, 2, 3, 3])
        with self.assertRaisesRegex(dovetail_results.InputError, "no such folder"):
            dovetail_results.load(self.folder / "none")


    def test_rounds_and_intervals_are_told_apart_by_name(self):
        sys.path.insert(0, str(REPORT.parent))
        import dovetail_results

        def change(summary):
            summary.update(rounds_ns={"began_ns": 7, "p50": [5.0, 3.0]}, speed_up_interval=None, step_ns_interval=[1.0, 2.0])

        results = dovetail_results.load(self.changed("two_rounds", change))
        policy = results.policies().set_index("policy").loc["dual_batch"]
        self.assertEqual((policy["step_ns_interval.low"], policy["step_ns_interval.high"], policy["rounds_ns.began_ns"]), (1, 2, 7))
        self.assertTrue(policy[["speed_up_interval.low", "speed_up_interval.high"]].isna().all())
        self.assertIn("drift.run.interval.low", policy.index)
        self.assertIn("metrics.waiting_bounds_ns.high", policy.index)
        self.assertEqual([name for name in policy.index if name.startswith("rounds_ns.p50")], [])
        rounds = results.rounds()
        self.assertEqual(rounds[rounds.policy == "dual_batch"][["began_ns", "round", "p50_ns"]].values.tolist(), [[7, 0, 5], [7, 1, 3]])

    def test_steps_have_rounds_and_kinds(self):
        sys.path.insert(0, str(REPORT.parent))
        import dovetail_results
        folder = make_run(self.folder, "kinds", "--set", "workload.steps=2", "--set", "policies.dual_batch.thresholds.prefill=13",
                          "--set", "workload.rank_scale=[1, 0.5]", "--set", "execution.iterations=6")
        results = dovetail_results.load(folder)
        steps, rounds = results.steps(), results.rounds()
        summaries = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/summary.json")}
        self.assertTrue(any(kind["decision"].startswith("vetoed: ") for kind in summaries["dual_batch"]["each_step"]))
        for name, summary in summaries.items():
            slowest = steps[steps.policy == name].groupby(["round", "iteration", "step", "decision", "schedule"]).step_ns.max()
            kinds = slowest.groupby(["step", "decision", "schedule"]).median()
            self.assertEqual({tuple(key): time for key, time in kinds.items()},
                             {(kind["steps"][0], kind["decision"], kind["schedule"]): kind["step_ns"]["p50"] for kind in summary["each_step"]})
            medians = slowest.groupby(["round", "iteration"]).mean().groupby("round").median()
            self.assertEqual(list(medians), list(rounds[rounds.policy == name].p50_ns))
        self.assertEqual(rounds.began_ns.nunique(), 1)

    def test_the_words_of_decisions_are_those_of_the_program(self):
        sys.path.insert(0, str(REPORT.parent))
        import result_files
        header = (TOP / "framework" / "base" / "types.hpp").read_text()
        for name, words in (("VetoReason", result_files.VETOES), ("GraphMode", result_files.GRAPHS)):
            table = re.search(rf"EnumNames<{name}> {{.*?}};", header, re.DOTALL)[0]
            self.assertEqual(tuple(re.findall(r'"(\w+)"', table)), words)


class ReportPackages(unittest.TestCase):
    def test_missing_ones_are_named(self):
        with tempfile.TemporaryDirectory(prefix="dovetail-report-") as folder:
            for name in ("jinja2", "pandas"):
                (Path(folder) / f"{name}.py").write_text("raise ImportError\n")
            outcome = execute(["/usr/bin/python3", "-B", str(REPORT), folder], environment={"PYTHONPATH": folder})
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertRegex(outcome.err, "^report: /usr/bin/python3 has no jinja2,.* no pandas; to go on: apt-get install .*python3-jinja2.* python3-pandas")


if __name__ == "__main__":
    unittest.main(verbosity=2)
