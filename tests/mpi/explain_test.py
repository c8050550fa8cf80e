#!/usr/bin/env python3
"""`dovetail compare` on real runs: each column and field that a report shows is explained, runs are told apart, and terminals are narrow.

explain_test.py [unittest arguments]; cli.py has the environment.
"""
import fcntl
import json
import os
import pty
import re
import struct
import termios
import unittest

from cli import BIN, TOP, dovetail
from sweep_case import BASE, SweepTest


def lines_of(report):
    """The columns of a report, as --explain tells them."""
    told = json.loads(dovetail("compare", "--explain", "--format", "json").out)
    return [line["column"] for line in told if line["report"].startswith(report) and line["column"]]


def fields():
    told = json.loads(dovetail("compare", "--explain", "--format", "json").out)
    return {line["field"] for line in told if line["field"] and not line["report"].startswith("sweep")}


def paths(document, path=""):
    if isinstance(document, dict) and document:
        return set().union(*(paths(value, f"{path}.{key}".strip(".")) for key, value in document.items()))
    if isinstance(document, list) and document and isinstance(document[0], dict):
        return set().union(*(paths(value, path) for value in document))
    return {path}


def is_explained(path, known):
    keys = path.split(".")
    return path in known or any(".".join(keys[:end]) + ".*" in known for end in range(1, len(keys)))


def headings(text):
    """Of every table of a text: cut as the rule of dashes below them."""
    lines = text.splitlines()
    found = []
    for above, line in zip(lines, lines[1:]):
        if re.fullmatch(r"-[- ]*", line):
            found += [above[rule.start():rule.end()].strip() for rule in re.finditer("-+", line)]
    return found


def on_terminal(columns, *arguments):
    """What a command prints on a terminal of that many columns."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(TOP)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.execv(BIN, [BIN, *map(str, arguments)])
    text = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.waitpid(child, 0)
    os.close(terminal)
    return text.decode().replace("\r\n", "\n")


class Explain(SweepTest):
    OPS = ("--set", "record.timing=ops", "--set", "record.profiled_iterations=1")

    def test_every_column_and_field_of_a_run(self):
        path = self.file(base=BASE.replace("[hidden, logits]", "[hidden, logits, routing]"))
        self.run_sweep(path, *self.OPS)
        known = fields()
        for policy in ("sequential", "dual_batch"):
            found = paths(json.loads((self.out / policy / "summary.json").read_text()))
            self.assertGreater(len(found), 120)
            self.assertEqual([one for one in sorted(found) if not is_explained(one, known)], [])
            self.assertFalse(is_explained("metrics.surprise", known), "the test would notice")
        shown = headings(dovetail("compare", self.out).out)
        self.assertEqual(shown, [one for one in lines_of("compare: step times") + lines_of("compare: where") + lines_of("compare: exchange")
                                 if one not in ("run", "baseline")])
        shown = headings(dovetail("verify", self.out / "sequential", self.out / "dual_batch").out)
        self.assertEqual(shown, lines_of("verify"))

    def test_every_column_of_check_and_plan(self):
        path = self.file()
        known = lines_of("check")
        found = [re.sub(r"^rank \d+$", "rank N", one) for one in headings(dovetail("check", path, "--ranks", 2).out)]
        self.assertGreater(len(found), 15)
        self.assertEqual([one for one in found if one not in known], [])
        found = headings(dovetail("check", self.file("  workload.seed: [1, 2]\n"), "--ranks", 2).out)
        self.assertEqual([one for one in found if one not in known], ["workload.seed"])  # an axis
        line = dovetail("plan", path, "--policy", "dual_batch").out.splitlines()[1]
        self.assertEqual(re.split(r"  +", line.strip()), lines_of("plan"))

    def test_explanations(self):
        whole = dovetail("compare", "--explain")
        self.assertEqual(whole.code, 0, str(whole))
        one = dovetail("compare", "--explain", "ideal")
        self.assertIn("metrics.ideal_ns", one.out)
        self.assertNotIn("split tax\n", one.out)
        folder = dovetail("compare", "--explain", "launch")  # a column, and a folder of the project
        self.assertIn("metrics.terms_ns.launch", folder.out, str(folder))
        none = dovetail("compare", "--explain", "splendour")
        self.assertEqual(none.code, 2, str(none))
        self.assertIn("no column or field 'splendour'", none.err)
        self.assertEqual(dovetail("compare").code, 2)
        self.run_sweep(self.file())
        for arguments in ((self.out, "--explain"), ("--explain", self.out)):
            both = dovetail("compare", *arguments).out
            self.assertIn("What a column means", both)
            self.assertIn("p50 of the baseline / own p50\n", both)
            self.assertNotIn("split tax\n", both)  # no such column: no op was timed

    def test_several_runs(self):
        path = self.file()
        for name in ("old", "new"):
            self.run_sweep(path, *self.OPS, out=self.folder / name / "run")
        runs = [self.folder / "old" / "run", self.folder / "new" / "run"]
        both = json.loads(dovetail("compare", *runs, "--format", "json").out)["policies"]
        self.assertEqual([(one["run"], one["name"]) for one in both],
                         [(f"{run}/run", name) for run in ("old", "new") for name in ("sequential", "dual_batch")])
        self.assertEqual([one["baseline"] for one in both], [f"{run}/run/sequential" for run in ("old", "old", "new", "new")])
        alone = json.loads(dovetail("compare", runs[1], "--format", "json").out)["policies"]
        for one, other in zip(alone, both[2:]):
            self.assertEqual(one["metrics"], other["metrics"])
            self.assertEqual(one["speed_up"], other["speed_up"])
        named = json.loads(dovetail("compare", *runs, "--baseline", runs[0] / "sequential", "--format", "json").out)["policies"]
        self.assertAlmostEqual(named[3]["speed_up"], both[0]["step_ns"]["p50"] / both[3]["step_ns"]["p50"])
        self.assertNotEqual(named[3]["metrics"], both[3]["metrics"])
        self.assertEqual(len(json.loads(dovetail("compare", runs[0], f"{runs[0]}/", runs[0] / "dual_batch", "--format", "json").out)["policies"]), 2)

    def test_a_terminal_is_not_overrun(self):
        self.run_sweep(self.file(), *self.OPS)
        piped = dovetail("compare", self.out).out
        self.assertGreater(max(map(len, piped.splitlines())), 120)
        self.assertEqual(on_terminal(250, "compare", self.out), piped)
        narrow = on_terminal(60, "compare", self.out)
        tables = narrow[:narrow.index("Not in the step time")].split("\n\n")
        self.assertLessEqual(max(len(line) for table in tables for line in table.splitlines() if not line.startswith(("Where", "Step"))), 60, narrow)
        self.assertEqual([one for one in headings(narrow) if not one.startswith("policy")],
                         [one for one in headings(piped) if not one.startswith("policy")])


if __name__ == "__main__":
    unittest.main(verbosity=2)
