#!/usr/bin/env python3
"""Makes a file of requests, as `workload.requests: {file: ...}` takes it, of a serving trace.

launch/convert_trace.py TRACE [--phase prefill|decode] [--skip N] [--count N] [--keys INPUT,OUTPUT] > requests.jsonl

Reads JSON, one object a line, as Mooncake's (input_length, output_length), and CSV, as Azure's (ContextTokens, GeneratedTokens) or BurstGPT's
(Request tokens, Response tokens). --keys names the keys or columns of other traces. Only the two numbers of tokens are taken: arrival times and
shared prefixes are left out, since a step has no arrivals.
  prefill  a request computes its input:                        {"length": INPUT}
  decode   a request is in the middle of its output:            {"context_length": INPUT + OUTPUT / 2}
A prefill request without input tokens is left out. Exit code 2: bad usage or input, with file and line.
"""
import argparse
import csv
import itertools
import json
import os
import stat
import sys

KNOWN_KEYS = [("input_length", "output_length"), ("ContextTokens", "GeneratedTokens"), ("Request tokens", "Response tokens")]
MAX_TOKENS = 10**9  # as in framework/plan/request_trace.hpp


class InputError(Exception):
    """Bad input: one line for a person."""


def open_trace(path):
    """A regular file only, without waiting for a pipe's writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: not a regular file")
    return os.fdopen(descriptor, encoding="utf-8-sig", newline="")


def read_object(text):
    """The JSON object, or what is wrong with it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else f"no JSON object: {text.strip()[:60]}"


def records(file):
    """(line, {key: value}) of each request, of either format; or (line, what is wrong with it)."""
    first = file.readline()
    file.seek(0)
    if first.lstrip().startswith("{"):
        for line, text in enumerate(file, 1):
            if text.strip():
                yield line, read_object(text)
        return
    reader = csv.DictReader(file)
    for record in reader:
        yield reader.line_num, record


def choose_keys(record, wanted):
    for keys in [tuple(wanted.split(","))] if wanted else KNOWN_KEYS:
        if all(key in record for key in keys):
            return keys
    known = wanted or " or ".join(",".join(keys) for keys in KNOWN_KEYS)
    raise InputError(f"no numbers of tokens among {', '.join(map(str, record))}; allowed: {known}, or --keys INPUT,OUTPUT")


def tokens_of(record, key):
    """A whole number, written as a number or as a text, also as 512.0."""
    try:
        number = float(record[key])
        if isinstance(record[key], bool) or number != int(number) or not 0 <= number <= MAX_TOKENS:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{key} is {record.get(key)!r}; allowed: a whole number from 0 to {MAX_TOKENS}") from error
    return int(number)


def convert(path, phase, wanted):
    """The lines for a trace, one after the other."""
    line, keys, found = 0, None, False
    with open_trace(path) as file:
        try:
            for line, record in records(file):
                if isinstance(record, str):
                    raise InputError(record)
                keys = keys or choose_keys(record, wanted)
                tokens, output = (tokens_of(record, key) for key in keys)
                found = True
                if phase == "decode":
                    yield json.dumps({"context_length": tokens + output // 2})
                elif tokens > 0:
                    yield json.dumps({"length": tokens})
        except (InputError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}:{line}: {error}") from error
    if not found:
        raise InputError(f"{path}: holds no request")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--phase", choices=["prefill", "decode"], default="prefill", help="what a request does in a step (default: prefill)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N requests")
    parser.add_argument("--count", type=int, metavar="N", help="take so many requests (default: all)")
    parser.add_argument("--keys", metavar="INPUT,OUTPUT", help="keys or columns with the numbers of tokens of the input and of the output")
    arguments = parser.parse_args()
    if arguments.skip < 0 or (arguments.count or 0) < 0 or (arguments.keys or ",").count(",") != 1:
        parser.error("--skip and --count are at least 0, --keys names two keys")
    end = None if arguments.count is None else arguments.skip + arguments.count
    try:
        for line in itertools.islice(convert(arguments.trace, arguments.phase, arguments.keys), arguments.skip, end):
            print(line)
    except InputError as error:
        print(f"convert_trace: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
