#!/usr/bin/env python3
"""launch/convert_trace.py: what it makes of traces of Mooncake, Azure and others, and where it refuses one."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CONVERT = Path(__file__).resolve().parents[3] / "launch" / "convert_trace.py"
MOONCAKE = ('{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}\n'
            '{"timestamp": 30535, "input_length": 6472.0, "output_length": 27, "hash_ids": [46]}\n\n')
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,0,109\r\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"


class ConvertTrace(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="dovetail-trace-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.trace = self.folder / "trace"

    def run_on(self, text, *arguments):
        if text is not None:
            self.trace.write_bytes(text if isinstance(text, bytes) else text.encode())
        return subprocess.run([sys.executable, "-B", CONVERT, self.trace, *arguments], capture_output=True, text=True, timeout=20, check=False)

    def lines(self, text, *arguments):
        process = self.run_on(text, *arguments)
        self.assertEqual((process.returncode, process.stderr), (0, ""))
        return [json.loads(line) for line in process.stdout.splitlines()]

    def refusal(self, text, *arguments):
        process = self.run_on(text, *arguments)
        self.assertEqual(process.returncode, 2, process.stdout + process.stderr)
        return process.stderr

    def test_takes_inputs_in_prefill_and_the_middle_of_outputs_in_decode(self):
        self.assertEqual(self.lines(MOONCAKE), [{"length": 6955}, {"length": 6472}])
        self.assertEqual(self.lines(MOONCAKE, "--phase", "decode"), [{"context_length": 6981}, {"context_length": 6485}])
        self.assertEqual(self.lines(AZURE, "--phase", "decode"), [{"context_length": 396}, {"context_length": 54}])
        self.assertEqual(self.lines(AZURE), [{"length": 374}], "a prefill without tokens is none")
        self.assertEqual(self.lines(BURST), [{"length": 472}])
        self.assertEqual(self.lines("\ufeff" + AZURE), [{"length": 374}])

    def test_takes_a_part_of_the_trace(self):
        text = "".join(f'{{"input_length": {n}, "output_length": 1}}\n' for n in range(1, 9))
        self.assertEqual([line["length"] for line in self.lines(text, "--skip", "2", "--count", "3")], [3, 4, 5])
        self.assertEqual(self.lines(text, "--count", "0"), [])

    def test_other_keys_can_be_named(self):
        self.assertEqual(self.lines('{"prompt": 5, "answer": 2}\n', "--keys", "prompt,answer"), [{"length": 5}])
        self.assertEqual(self.lines("prompt,answer\n5,2\n", "--keys", "prompt,answer"), [{"length": 5}])
        self.assertIn("--keys names two keys", self.refusal(MOONCAKE, "--keys", "prompt"))

    def test_names_file_and_line_of_what_it_refuses(self):
        good = MOONCAKE.splitlines()[0] + "\n"
        for text, place, reason in ((good + '\n{"input_length": 1', 3, "not JSON"),
                                    (good + "[1]", 2, "no JSON object: [1]"),
                                    (good + "[" * 100000, 2, "not JSON"),
                                    (good + '{"input_length": 1}\n', 2, "output_length is None"),
                                    (good + '{"input_length": 1.5, "output_length": 1}', 2, "input_length is 1.5; allowed: a whole number"),
                                    (good + '{"input_length": true, "output_length": 1}', 2, "input_length is True"),
                                    (good + '{"input_length": 1e300, "output_length": 1}', 2, "input_length is 1e+300"),
                                    (good + '{"input_length": -1, "output_length": NaN}', 2, "input_length is -1"),
                                    ('{"length": 1}\n', 1, "no numbers of tokens among length; allowed: input_length,output_length or ContextTokens"),
                                    (AZURE + "2023-11-16 18:15:46,x,44\n", 4, "ContextTokens is 'x'"),
                                    (AZURE + "2023-11-16 18:15:46,7\n", 4, "GeneratedTokens is None"),
                                    (b"TIMESTAMP,ContextTokens,GeneratedTokens\n1,2,\xff\n", None, "decode")):
            message = self.refusal(text)
            self.assertIn(f"{self.trace}:{'' if place is None else place}", message)
            self.assertIn(reason, message)
            self.assertNotIn("Traceback", message)
        self.assertIn("holds no request", self.refusal(""))

    def test_refuses_what_is_no_file_at_once(self):
        self.assertIn("No such file", self.refusal(None))
        os.mkfifo(self.trace)
        self.assertIn("not a regular file", self.refusal(None))


if __name__ == "__main__":
    unittest.main()
