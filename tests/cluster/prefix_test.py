#!/usr/bin/env python3
"""The way without root: what a machine lacks is unpacked into a folder, and CMake takes it from there (configuration only).

prefix_test.py [unittest arguments]; launch/README.md has the lines that are tried.
"""
import os
import re
import shutil
import subprocess

from cluster_case import TOP, ClusterCase, main
from cli import execute


class Prefix(ClusterCase):
    def cached(self, build):
        """What CMake has found, of the packages that the prefix has."""
        text = (build / "CMakeCache.txt").read_text()
        return dict(re.findall(r"(?m)^(yaml-cpp_DIR|CLI11_DIR|nlohmann_json_DIR|GTest_DIR|googletest_sources|CMAKE_MAKE_PROGRAM):\w+=(.*)$", text))

    def test_packages_of_a_folder_are_taken(self):
        lines = re.search(r"(?m)^apt-get download .*\n.*dpkg -x.*$", (TOP / "launch/README.md").read_text())[0]
        outcome = subprocess.run(["bash", "-euc", lines], cwd=self.folder, capture_output=True, text=True, timeout=100)
        if "Failed to fetch" in outcome.stderr or "Unable to locate" in outcome.stderr:
            self.skipTest("no packages can be had: " + outcome.stderr)
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        prefix = self.folder / "prefix" / "usr"
        environment = {"DOVETAIL_PREFIX": str(prefix), "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}"}
        for name, more in (("installed", []), ("sources", ["-DCMAKE_DISABLE_FIND_PACKAGE_GTest=1"])):
            build = self.folder / name
            outcome = execute(["cmake", "--preset", "host", "-B", str(build), *more], limit_s=100, environment=environment)
            self.assertEqual(outcome.code, 0, str(outcome))
            found = self.cached(build)
            self.assertEqual(set(found) - {"GTest_DIR", "googletest_sources"}, {"yaml-cpp_DIR", "CLI11_DIR", "nlohmann_json_DIR", "CMAKE_MAKE_PROGRAM"})
            for package, folder in found.items():
                if not folder.endswith("NOTFOUND"):
                    self.assertTrue(folder.startswith(str(prefix)), f"{package}: {folder}")
        self.assertIn("googletest_sources", found)


if __name__ == "__main__":
    main(", ".join(name for name in ("apt-get", "dpkg", "cmake") if shutil.which(name) is None))
