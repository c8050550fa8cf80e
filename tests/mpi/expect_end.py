#!/usr/bin/env python3
"""Runs a command that is meant to fail, and checks how it ends.

expect_end.py --exit 3 --from REGEX --within 5 --count REGEX 1 --signal REGEX USR1 -- mpirun ...

--exit CODE          the exit code, or 'nonzero'
--within SECONDS     the longest time from the first line that matches --from (default: from the start) to the end
--count REGEX N      the number of output lines that match, or a range, 1..3
--signal REGEX NAME  sends the signal to the command when a line matches for the first time
"""
import argparse
import re
import signal
import subprocess
import sys
import time


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--exit", required=True)
    parser.add_argument("--within", type=float, default=50)
    parser.add_argument("--from", dest="start")
    parser.add_argument("--count", nargs=2, action="append", default=[])
    parser.add_argument("--signal", nargs=2)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()

    begin = time.monotonic()
    child = subprocess.Popen(args.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    lines = []
    from_time = None if args.start else begin
    signalled = False
    for line in child.stdout:
        lines.append(line.rstrip("\n"))
        print(f"{time.monotonic() - begin:7.3f} {line}", end="", flush=True)
        if from_time is None and re.search(args.start, line):
            from_time = time.monotonic()
        if args.signal and not signalled and re.search(args.signal[0], line):
            signalled = True
            child.send_signal(getattr(signal, "SIG" + args.signal[1]))
    code = child.wait()
    end = time.monotonic()

    problems = []
    if args.exit == "nonzero":
        if code == 0:
            problems.append("exit code 0, want another")
    elif code != int(args.exit):
        problems.append(f"exit code {code}, want {args.exit}")
    if from_time is None:
        problems.append(f"no line matches '{args.start}'")
    elif end - from_time > args.within:
        problems.append(f"took {end - from_time:.2f} s, allowed {args.within} s")
    if args.signal and not signalled:
        problems.append(f"no line matches '{args.signal[0]}', so no signal was sent")
    for regex, want in args.count:
        found = sum(1 for line in lines if re.search(regex, line))
        low, _, high = want.partition("..")
        if not int(low) <= found <= int(high or low):
            problems.append(f"{found} lines match '{regex}', want {want}")
    for problem in problems:
        print(f"expect_end: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
