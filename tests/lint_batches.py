#!/usr/bin/env python3
"""Joins the sources of a folder into one source for clang-tidy, which takes most of its time for the headers that they share.

lint_batches.py DATABASE OUTPUT < SOURCES: SOURCES are absolute paths, one a line, of files in the compilation database DATABASE. Writes into
the folder OUTPUT the joined sources and their compilation database, and prints per joined source a line: its path, then those it includes."""
import json
import os
import sys

GREATEST_BATCH = 16  # at more, two processors no longer finish together


def batches(database, sources):
    """Per folder and compiler flags, lists of at most GREATEST_BATCH sources."""
    groups = {}
    for entry in sorted(database, key=lambda entry: entry["file"]):
        if entry["file"] in sources:
            flags = entry["command"].split(" -o ")[0]
            groups.setdefault((flags, os.path.dirname(entry["file"])), []).append(entry["file"])
    for (flags, _), files in groups.items():
        count = -(-len(files) // GREATEST_BATCH)
        for index in range(count):
            yield flags, files[index * len(files) // count:(index + 1) * len(files) // count]


def main():
    database_path, output = sys.argv[1:]
    with open(database_path) as file:
        database = json.load(file)
    sources = set(sys.stdin.read().split())
    os.makedirs(output, exist_ok=True)
    entries = []
    for index, (flags, files) in enumerate(batches(database, sources)):
        path = os.path.join(output, f"batch_{index}.cpp")
        with open(path, "w") as file:
            file.writelines(f'#include "{source}"  // NOLINT(bugprone-suspicious-include)\n' for source in files)
        entries.append({"directory": os.path.dirname(database_path), "file": path, "command": f"{flags} -o batch.o -c {path}"})
        print(path, *files)
    with open(os.path.join(output, "compile_commands.json"), "w") as file:
        json.dump(entries, file)


main()
