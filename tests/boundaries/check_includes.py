"""Every include of the product against include_table.txt; a source includes its own header first, so that the header is compiled alone."""
import os
import re

from sources import PRODUCT, finish, includes_of, list_sources, read, root_from_arguments

TABLE = os.path.join("tests", "boundaries", "include_table.txt")

# Where a header of others comes from. What has neither a dot nor a folder is the standard library's; those for threads need a right of
# their own, since ThreadSanitizer runs the tests of some folders only.
OTHERS = (
    ("threads", r"(atomic|barrier|condition_variable|future|latch|mutex|semaphore|shared_mutex|stop_token|thread)$"),
    ("nlohmann-json", r"nlohmann/"),
    ("yaml-cpp", r"yaml-cpp/"),
    ("hdf5", r"hdf5(_hl)?\.h$"),
    ("mpi", r"mpi\.h$"),
    ("nccl", r"nccl\w*\.h$"),
    ("cuda", r"(cuda|cublas|cooperative_groups|cub/|thrust/|curand|cufft|mma\.h)"),
    ("torch", r"(ATen|c10|torch|caffe2)/"),
    ("cli11", r"CLI/"),
    ("posix", r"(sys/|linux/|arpa/|netinet/|\w+\.h$)"),
)


class Table:
    """The lines of include_table.txt; `folders` by name, in the file's order."""

    def __init__(self, text):
        self.folders = {}
        self.errors = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            folder, project, others = (part.strip() for part in line.split("|"))
            allowed = {folder} | (set(self.folders) if project == "all above" else set())
            for name in [] if project == "all above" else project.split():
                full = name if name in self.folders else "framework/" + name
                if full not in self.folders:
                    self.errors.append(f"{TABLE}:{number}: {folder} may not include {name}, which is not above it in the list")
                allowed.add(full)
            self.folders[folder] = (allowed, set(others.split()))

    def folder_of(self, path):
        """The folder of the table that a file belongs to; None = none."""
        return next((folder for folder in self.folders if path.startswith(folder + "/")), None)


def owner_of(header):
    standard = None if re.search(r"[./]", header) else "the standard library"
    return next((name for name, pattern in OTHERS if re.match(pattern, header)), standard)


def own_header_first(root, path):
    """A source whose name a header has must include that first."""
    stem, ending = os.path.splitext(path)
    header = next((stem + end for end in (".hpp", ".cuh") if os.path.exists(os.path.join(root, stem + end))), None)
    if ending not in (".cpp", ".cu") or header is None:
        return []
    first = next(iter(includes_of(root, path)), (1, None))
    return [] if first[1] == header else [f"{path}:{first[0]}: includes {first[1]} before its own header {header}"]


def wrong_include(table, folder, path, header):
    """Why the file may not include the header; None = it may."""
    allowed, others = table.folders[folder]
    if header.split("/")[0] in PRODUCT + ("tests",):
        target = table.folder_of(header)
        return None if target in allowed else f"{folder} may not include {target or header.split('/')[0]}"
    owner = owner_of(header)
    if owner is None:
        return "belongs to nobody that the table knows"
    if owner == "torch" and path.endswith((".cu", ".cuh")):
        return "device code sees raw pointers and sizes only, no torch"
    return None if owner == "the standard library" or owner in others else f"{folder} may not use {owner}"


def check(root):
    table = Table(read(root, TABLE))
    findings = list(table.errors)
    used = set()
    for path in list_sources(root, PRODUCT):
        folder = table.folder_of(path)
        if folder is None:
            findings.append(f"{path}:1: its folder is not in {TABLE}")
            continue
        used.add(folder)
        for line, header in includes_of(root, path):
            why = wrong_include(table, folder, path, header)
            if why:
                findings.append(f"{path}:{line}: includes {header}: {why}")
    for path in list_sources(root, PRODUCT + ("tests",)):
        findings += own_header_first(root, path)
    findings += [f"{TABLE}: there is no source in {folder}" for folder in table.folders if folder not in used]
    return findings


if __name__ == "__main__":
    finish(check(root_from_arguments()))
