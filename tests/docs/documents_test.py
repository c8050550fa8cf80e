"""The twins: each rule for documents passes a small sound tree, and names line and reason of one planted fault."""
import tempfile
import unittest
from pathlib import Path

import check_documents
import draw
import run_documents
from markdown import Document

TREE = {
    "README.md": """# Title

See [the rest](tests/README.md#how-to) and `launch/run.sh`, `run.sh` or `tests/NAME.txt`.

```sh
dovetail say 12.5 ms   12
nvidia-smi
```
```output
said 99.9 ms  3
```

```python file=edit.py
print(open("experiments/a.yaml").read().strip())
```
```sh
python3 edit.py > results/copy.txt
cat results/copy.txt
```
```output head=1
a: 1
```
<!-- picture: results/copy.txt -> kept.txt -->

`dovetail say --loud` is an option.
""",
    "kept.txt": "a: 1\n",
    "experiments/a.yaml": "a: 1\n",
    "launch/run.sh": "",
    "tests/README.md": "# Tests\n\n## How to\n",
    "tests/a.txt": "",
    "tests/CMakeLists.txt": "add_host_test(plan SOURCES x)\n",
    "tests/docs/not_run.txt": "# reasons\nnvidia-smi | needs a GPU\n",
}
DOVETAIL = """#!/bin/sh
case "$1 $2" in
  "say --help") echo "--loud  loudly" ;;
  "say "*) shift; echo said "$@" ;;
  "check "*) if echo "$*" | cat - "$2" | grep -q bad; then exit 2; fi ;;
  *) exit 2 ;;
esac
"""


class Tree(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "tree"
        self.dovetail = Path(folder.name) / "dovetail"
        self.dovetail.write_text(DOVETAIL)
        self.dovetail.chmod(0o755)

    def write(self, changes, added=""):
        for path, text in {**TREE, **changes}.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        with open(self.root / "README.md", "a", encoding="utf-8") as file:
            file.write(added)

    def expect(self, found, *wanted):
        self.assertEqual(len(found), len(wanted), found)
        for one, text in zip(found, wanted):
            self.assertIn(text, one)


class Checks(Tree):
    def expect_of(self, added, *wanted, changes=None):
        self.write(changes or {})
        self.expect(check_documents.check(self.root))
        self.write(changes or {}, added)
        self.expect(check_documents.check(self.root), *wanted)

    def test_a_link_to_nothing(self):
        self.expect_of("[x](tests/none.md)\n", "README.md:26: link to tests/none.md: there is no such file")

    def test_a_link_to_no_heading(self):
        self.expect_of("[x](tests/README.md#how)\n[y](#title)\n", "link to tests/README.md#how: there is no such heading")

    def test_a_file_that_is_not_there(self):
        self.expect_of("`launch/none.sh`, `none.cpp`, `summary.json`, `edit.py`, `copy.txt`, `--set a.b=launch/other.sh`\n",
                       "launch/none.sh: there is no such file", "none.cpp: there", "launch/other.sh: there")

    def test_a_test_that_is_not_there(self):
        self.expect_of("`build/bin/test_plan`, `build/bin/test_none`\n", "test_none: there is no such test")

    def test_a_long_line(self):
        self.expect_of("x" * 120 + "\n| " + "x" * 200 + "\n" + "y" * 121 + "\n", "README.md:28: 121 columns")

    def test_code_that_nobody_runs(self):
        self.expect_of("\n    dovetail say\n", "an indented code block")
        self.expect_of("```\nx\n```\n", "a code block of the kind ''")
        self.expect_of("```text\ndovetail say\n```\n", "a command in a block of text")
        self.expect_of("```text\nx\n```\n```output\nx\n```\n", "an output that no block before it prints")
        self.expect_of("```sh\ntrue\n", "has no end")

    def test_an_exception_that_is_not_needed(self):
        self.expect_of("", changes={})
        self.write({"tests/docs/not_run.txt": TREE["tests/docs/not_run.txt"] + "rm -r / | root\n"})
        self.expect(check_documents.check(self.root), "'rm -r /' is a command of no document")
        self.write({"tests/docs/not_run.txt": "nvidia-smi | \n"})
        self.expect(check_documents.check(self.root), "has no reason")


class Runs(Tree):
    def run_readme(self, update=False):
        document = Document(self.root, "README.md")
        dovetail = str(self.dovetail)
        not_run = {"nvidia-smi": "needs a GPU"}
        return (run_documents.check_inline_commands(document, dovetail)
                + run_documents.run_document(self.root, document, dovetail, not_run, update))

    def expect_of(self, added, *wanted):
        self.write({})
        self.expect(self.run_readme())
        self.write({}, added)
        self.expect(self.run_readme(), *wanted)

    def test_a_command_that_fails(self):
        self.expect_of("```sh\nfalse\ntrue\n```\n", "README.md:27: exit code 1, not 0")
        self.expect_of("```sh exit=3\nexit 3\n```\n```sh exit=3\nexit 2\n```\n", "exit code 2, not 3")

    def test_a_python_snippet_that_fails(self):
        self.expect_of("```python\nprint(1)\n```\n```output\n2\n```\n```python\nnext(iter([]))\n```\n", "StopIteration")

    def test_an_output_that_is_another(self):
        self.expect_of("```sh\ndovetail say 5 apples\n```\n```output\nsaid 7 pears\n```\n", "what is shown is not what is printed")
        self.expect_of("```sh\ndovetail say a\n```\n```output from=b\nb\n```\n", "no line with 'b'")

    def test_an_output_that_differs_by_noise(self):
        self.expect_of("```sh\ndovetail say '0.92 (0.76 to 1.12, no difference) verified'\n```\n```output\nsaid 0.6 (0.5 to 0.7) verified\n```\n")
        self.expect_of("```sh\ndovetail say '0.92 (0.76 to 1.12) mismatch'\n```\n```output\nsaid 0.6 (0.5 to 0.7) verified\n```\n", "not what is printed")

    def test_yaml_that_is_refused(self):
        good = "```yaml key=policies in=experiments/a.yaml\n- good\n```\n```yaml key=k each in=experiments/a.yaml\nk: 1  # one\nk: 2\n```\n"
        self.expect_of(good + "```yaml key=k each in=experiments/a.yaml\nk: 1\nk: bad\n```\n", "exit code 2")
        self.expect_of(good + "```yaml add in=experiments/a.yaml\nbad: 1\n```\n", "exit code 2")
        self.expect_of("```yaml\na: 1\n```\n", "needs `file=` or `in=`")

    def test_an_inline_command_that_is_not_there(self):
        self.expect_of("`mpirun -np N dovetail say FILE --loud`\n`dovetail sing`, `dovetail say --quiet`\n",
                       "there is no command sing", "dovetail say has no option --quiet")

    def test_a_picture_that_nobody_makes(self):
        self.expect_of("<!-- picture: results/none.svg -> kept.svg -->\n", "the commands make no results/none.svg")

    def test_an_update_writes_what_is_printed(self):
        self.write({}, "```output head=1\n```\n```sh\nprintf 'a\\nb\\nc\\n'\n```\n```output tail=2\nx\ny\nz\n```\n<!-- picture: results/copy.txt -> kept.txt -->\nend\n")
        (self.root / "kept.txt").unlink()
        self.assertEqual(self.run_readme(update=True), [])
        text = (self.root / "README.md").read_text()
        self.assertIn("```output\nsaid 12.5 ms 12\n```\n", text)
        self.assertIn("```output head=1\na: 1\n```\n", text)
        self.assertIn("```output tail=2\nb\nc\n```\n", text)
        self.assertTrue(text.endswith("end\n"))
        self.assertEqual((self.root / "kept.txt").read_text(), "a: 1\n")
        self.assertEqual(self.run_readme(), [])

    def test_a_picture_that_is_kept_names_no_folder_of_this_machine(self):
        self.write({}, "```sh\necho \"$PWD/results/x, $DOVETAIL_BIN\" > results/page.html\n```\n<!-- picture: results/page.html -> page.html -->\n")
        self.assertEqual(self.run_readme(update=True), [])
        self.assertEqual((self.root / "page.html").read_text(), "results/x, build/bin/dovetail\n")

    def test_the_project_itself_is_not_touched(self):
        self.write({}, "```sh\necho changed > experiments/a.yaml\necho x > results/x\n```\n")
        self.assertEqual(self.run_readme(), [])
        self.assertEqual((self.root / "experiments/a.yaml").read_text(), "a: 1\n")
        self.assertFalse((self.root / "results").exists())


class Drawings(unittest.TestCase):
    TABLE = "# comment\nframework/base | | posix\nframework/plan | base |\nframework/exec | base plan |\nmodels | all above |\n"

    def test_the_folders_follow_from_the_table(self):
        drawn = draw.draw_architecture(self.TABLE)
        self.assertEqual(drawn, draw.draw_architecture(self.TABLE))
        self.assertEqual(drawn.count("marker-end"), 1, "exec to plan; what everyone may include has no arrow")
        self.assertNotEqual(drawn, draw.draw_architecture(self.TABLE.replace("base plan", "base")))

    def test_an_op_starts_when_its_lane_and_its_waits_are_done(self):
        ops = [{"phase": phase, "layer": layer, "ubatch": ubatch, "lane": lane, "waits": waits}
               for phase, layer, ubatch, lane, waits in (("route", 0, 0, "compute", []), ("dispatch", 0, 0, "comm", [0]),
                                                         ("mlp", 0, 1, "compute", []), ("experts", 0, 0, "compute", [1]))]
        placed = draw.place_ops({"ops": ops, "num_ubatches": 1})
        self.assertEqual([(start, end) for _, start, end in placed], [(0, 1), (1, 5), (1, 5), (5, 9)])
        ops[3]["waits"] = []
        ops[2]["phase"] = "route"
        self.assertEqual(draw.place_ops({"ops": ops, "num_ubatches": 1})[3][1:], (2, 6))

    def test_an_old_drawing_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "a.svg").write_text("old")
            (root / "b.svg").write_text("new")
            self.assertEqual(draw.find_differing(root, {"a.svg": "new", "b.svg": "new", "c.svg": "new"}), ["a.svg", "c.svg"])


if __name__ == "__main__":
    unittest.main()
