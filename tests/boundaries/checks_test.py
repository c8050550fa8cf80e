"""The twins: each check of this folder passes a small sound tree, and names file and line of one planted fault."""
import os
import shutil
import subprocess
import tempfile
import unittest

import check_file_system
import check_files
import check_includes
import check_mutations
import check_names
from sources import ENDINGS

FILLER = "// line\n" * 15
TREE = {
    "tests/boundaries/include_table.txt": "framework/base | | posix\nframework/cuda | base | torch cuda\nmodels | all above | cuda\n",
    "framework/base/log.hpp": "#include <string>\nnamespace dovetail {\nstruct Line {\n  int n;\n};\n}\n",
    "framework/base/log.cpp": '#include "framework/base/log.hpp"\n#include <unistd.h>\n' + FILLER,
    "framework/base/CMakeLists.txt": "add_library(base STATIC log.cpp)\n",
    "framework/cuda/event.cu": '#include <cuda_runtime_api.h>\n#include "framework/base/log.hpp"\n' + FILLER,
    "framework/CMakeLists.txt": "target_sources(base PRIVATE cuda/event.cu)\ntarget_link_libraries(models PUBLIC base)\n",
    "models/model.cpp": '#include "framework/base/log.hpp"\nnamespace dovetail {\nnamespace {\nstruct Local {};\n}\nint size(int a) {\n  return a;\n}\n}\n' + FILLER,
    "tests/mutations.txt": "# comment\n\n[doubled]\nfile models/model.cpp\n- return a;\n+ return 2 * a;\ntests model\n",
    "models/CMakeLists.txt": "add_library(models STATIC model.cpp)\ntarget_link_libraries(app PRIVATE models)\n",
}


class Twins(unittest.TestCase):
    def findings(self, check, changes):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**TREE, **changes}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return check(root)

    def expect(self, module, changes, *wanted):
        self.assertEqual(self.findings(module.check, {}), [])
        found = self.findings(module.check, changes)
        self.assertEqual(len(found), len(wanted), found)
        for one, text in zip(found, wanted):
            self.assertIn(text, one)

    def test_a_call_of_the_file_system_that_throws(self):
        source = "std::error_code error;\nfs::remove(a, error);\nif (fs::exists(fs::path(a) / \"b\")) {\n"
        self.expect(check_file_system, {"framework/run/a.cpp": source, "framework/base/file_system.cpp": source}, "framework/run/a.cpp:3: exists throws")
        self.expect(check_file_system, {"models/a.cpp": "file.exists(a);\nif (is_directory(path)) {\n"}, "models/a.cpp:2: is_directory throws")
        self.expect(check_file_system, {"launch/a.cpp": "for (const auto& entry : fs::directory_iterator(a, error)) {\n  entry.is_directory();\n"},
                    "launch/a.cpp:1: for", "launch/a.cpp:2: entry.is_directory()")

    def test_an_include_that_runs_up(self):
        self.expect(check_includes, {"framework/base/up.hpp": '\n#include "framework/cuda/event.hpp"\n'},
                    "framework/base/up.hpp:2: includes framework/cuda/event.hpp: framework/base may not include framework/cuda")

    def test_an_include_of_tests(self):
        self.expect(check_includes, {"models/a.cuh": '#include "tests/support/x.hpp"\n'}, "models may not include tests")

    def test_an_include_below_the_root(self):
        self.expect(check_includes, {"models/a.hpp": '  #  include "b.hpp"\n'}, "models/a.hpp:1: includes b.hpp: belongs to nobody")

    def test_a_library_of_others_where_it_may_not_be(self):
        for header, owner in (("torch/torch.h", "torch"), ("c10/util/Half.h", "torch"), ("mpi.h", "mpi"), ("nccl.h", "nccl"), ("hdf5.h", "hdf5"),
                              ("cuda_bf16.h", "cuda"), ("yaml-cpp/yaml.h", "yaml-cpp"), ("nlohmann/json.hpp", "nlohmann-json"), ("atomic", "threads"),
                              ("condition_variable", "threads")):
            self.expect(check_includes, {"framework/base/x.hpp": f"#include <{header}>\n"}, f"x.hpp:1: includes {header}: framework/base may not use {owner}")

    def test_an_unknown_library(self):
        self.expect(check_includes, {"models/a.hpp": "#include <boost/any.hpp>\n"}, "boost/any.hpp: belongs to nobody")

    def test_torch_in_device_code(self):
        self.expect(check_includes, {"framework/cuda/x.cuh": "#include <ATen/ATen.h>\n"}, "framework/cuda/x.cuh:1: includes ATen/ATen.h: device code")

    def test_a_folder_that_the_table_lacks(self):
        self.expect(check_includes, {"framework/new/x.hpp": "\n"}, "framework/new/x.hpp:1: its folder is not in")

    def test_a_table_with_an_arrow_that_runs_up(self):
        table = TREE["tests/boundaries/include_table.txt"].replace("base | |", "base | cuda |")
        self.expect(check_includes, {"tests/boundaries/include_table.txt": table}, "include_table.txt:1: framework/base may not include cuda")

    def test_a_header_that_its_source_does_not_include_first(self):
        self.expect(check_includes, {"framework/base/log.cpp": '#include <unistd.h>\n#include "framework/base/log.hpp"\n'},
                    "framework/base/log.cpp:1: includes unistd.h before its own header framework/base/log.hpp")

    def test_a_source_that_nobody_compiles(self):
        self.expect(check_files, {"framework/base/lost.cpp": FILLER}, "framework/base/lost.cpp:1: no CMakeLists.txt compiles it")

    def test_sources_that_a_list_finds_by_itself(self):
        found = {"tests/own/one_test.cpp": FILLER, "tests/CMakeLists.txt": "file(GLOB own CONFIGURE_DEPENDS own/*_test.cpp)\n"}
        self.assertEqual(self.findings(check_files.check, found), [])
        self.expect(check_files, {**found, "tests/own/one.cpp": FILLER}, "tests/own/one.cpp:1: no CMakeLists.txt compiles it")

    def test_a_source_that_is_compiled_twice(self):
        self.expect(check_files, {"models/CMakeLists.txt": TREE["models/CMakeLists.txt"] + "target_sources(models PRIVATE ../framework/cuda/event.cu)\n"},
                    "framework/cuda/event.cu:1: compiled 2 times, by framework/CMakeLists.txt, models/CMakeLists.txt")

    def test_a_source_that_is_not_there(self):
        self.expect(check_files, {"models/CMakeLists.txt": "add_library(models STATIC model.cpp gone.cpp)\ntarget_link_libraries(app PRIVATE models)\n"},
                    "models/CMakeLists.txt: names models/gone.cpp, which is not there")

    def test_a_script_of_tests_or_a_class_of_it_that_nobody_runs(self):
        script = "class Base:\n  pass\nclass One(Base):\n  def test_it(self):\n    pass\nclass Two(Base):\n  def test_it(self):\n    pass\n"
        for command in ("add_cli_tests(own_test.py One Two)", "add_test(NAME own COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/own_test.py)",
                        "foreach(name own_test)\n  add_test(NAME own COMMAND python3 ${name}.py)\nendforeach()"):
            self.assertEqual(self.findings(check_files.check, {"tests/mpi/own_test.py": script, "tests/mpi/CMakeLists.txt": command}), [], command)
        self.expect(check_files, {"tests/mpi/own_test.py": script, "tests/mpi/CMakeLists.txt": "add_cli_tests(own_test.py One)"},
                    "tests/mpi/own_test.py:6: tests/mpi/CMakeLists.txt does not run Two")
        self.expect(check_files, {"tests/mpi/own_test.py": script}, "tests/mpi/own_test.py:1: no CMakeLists.txt beside it runs it")

    def test_a_library_that_nobody_uses(self):
        self.expect(check_files, {"models/CMakeLists.txt": "add_library(models STATIC model.cpp)\n"}, "nothing uses the library models")

    def test_a_header_that_nobody_uses(self):
        self.expect(check_files, {"models/lonely.hpp": "\n"}, "models/lonely.hpp:1: no other file includes it")

    def test_a_file_that_is_too_long_or_too_short(self):
        self.expect(check_files, {"models/model.cpp": '#include "framework/base/log.hpp"\n' * 321}, "models/model.cpp:321: 321 lines; at most 320")
        self.expect(check_files, {"models/model.cpp": "\n" * 14}, "models/model.cpp:14: 14 lines; a source has at least 15")

    def test_a_file_beside_the_fixed_ones(self):
        with tempfile.TemporaryDirectory() as root:
            subprocess.run(["git", "init", "-q", root], check=True)
            for path in ("wheel.whl", "README.md", ".clang-tidy", "models/model.cpp", "notes/a.md"):
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8"):
                    pass
            expected = [f"{name}: does not belong into the top folder" for name in ("notes", "wheel.whl")]
            self.assertEqual(check_files.check_top_level(root), [], "no file is in a commit yet")
            subprocess.run(["git", "-C", root, "add", "."], check=True)
            self.assertEqual(check_files.check_top_level(root), expected)
            shutil.rmtree(os.path.join(root, ".git"))
            os.mkdir(os.path.join(root, "build-cuda"))
            self.assertEqual(check_files.check_top_level(root), expected, "without git what is there counts")

    def test_two_types_of_one_name(self):
        for text in ("namespace dovetail {\nenum class Line : int { a };\n}\n", "namespace dovetail {\ntemplate <class T>\nstruct Line final : Base<T> {};\n}\n",
                     "// {\nconst char* a = \"{\"; char b = '{';\nnamespace dovetail { class [[nodiscard]] Line { int x; }; }\n"):
            self.expect(check_names, {"models/a.cpp": text}, "framework/base/log.hpp:3: type dovetail::Line is also defined at models/a.cpp:")

    def test_two_functions_of_one_name(self):
        self.expect(check_names, {"models/a.cpp": "namespace dovetail {\nint size(int a) {\n  return 2;\n}\n}\n"},
                    "models/a.cpp:2: function dovetail::size(int a) is also defined at models/model.cpp:6")

    def test_names_that_may_be_equal(self):
        for text in ("namespace other {\nstruct Line {};\n}\n", "namespace dovetail {\nnamespace {\nstruct Line {};\nint size(int a) {\n  return a;\n}\n}\n}\n",
                     "namespace dovetail {\nstruct Line;\nint size(int a);\nint size(long a) {\n  return 1;\n}\n}\n",
                     "namespace dovetail {\nstruct Outer {\n  struct Line {};\n};\n}\n", "namespace dovetail {\nvoid f() {\n  struct Line {};\n}\n}\n"):
            self.assertEqual(self.findings(check_names.check, {"models/a.cpp": text}), [], text)

    def test_a_mutation_of_a_line_that_has_changed(self):
        wrong = {"[doubled]\nfile models/model.cpp\n- return b;\ntests model\n": ":1: doubled: models/model.cpp has this line 0 times, not once: return b;",
                 "\n[line]\nfile models/model.cpp\n- // line\ntests model\n": ":2: line: models/model.cpp has this line 15 times",
                 "[gone]\nfile models/gone.cpp\n- a\ntests model\n": ":1: gone: no file models/gone.cpp",
                 "[same]\nfile models/model.cpp\n- return a;\n+ return a;\ntests model\n": ":1: same needs",
                 "[untested]\nfile models/model.cpp\n- return a;\n": ":1: untested needs",
                 "[a]\nfile x\n- y\ntests z\n[a]\n": ":5: 'a' is there twice",
                 "[a]\nfile x\nfile y\n": ":3: 'file'; allowed:",
                 "file x\n": ":1: an entry begins with [name]"}
        for text, finding in wrong.items():
            self.expect(check_mutations, {"tests/mutations.txt": text}, "tests/mutations.txt" + finding)

    def test_a_mutation_that_changes_its_line_and_no_other(self):
        mutation = check_mutations.mutation_list.parse(TREE["tests/mutations.txt"])[0]
        text = TREE["models/model.cpp"]
        self.assertEqual(mutation.apply(text), text.replace("  return a;", "  return 2 * a;"))
        mutation.after = ""
        self.assertEqual(mutation.apply(text), text.replace("  return a;", "  "))

    def test_a_mutation_with_a_test_that_is_not_there(self):
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "tests"))
            os.makedirs(os.path.join(root, "models"))
            for path in ("tests/mutations.txt", "models/model.cpp"):
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(TREE[path])
            self.assertEqual(check_mutations.check(root, {"model"}), [])
            self.assertEqual(check_mutations.check(root, {"models"}), ["tests/mutations.txt:3: doubled: no test model"])

    def test_all_endings_are_read(self):
        for ending in ENDINGS:
            self.assertEqual(len(self.findings(check_includes.check, {"framework/base/x" + ending: '#include "models/a.hpp"\n'})), 1, ending)


if __name__ == "__main__":
    unittest.main()
