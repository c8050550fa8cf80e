#!/usr/bin/env python3
"""Whole runs against what transformers computes on the fixtures: a fault that all policies share passes `dovetail verify`, but not this.

anchor_test.py [unittest arguments]
"""
import os
import unittest

from anchor import FIXTURES, MORE_POLICIES, ONE_OF_EACH, AnchorTest


LONG = os.environ.get("DOVETAIL_LONG_TESTS") == "1"


class Anchor(AnchorTest):
    POLICIES = MORE_POLICIES

    @unittest.skipUnless(LONG, "long, and mixed batches have prefills as well: DOVETAIL_LONG_TESTS=1")
    def test_prefills(self):
        self.check_runs("prefill")

    def test_mixed_batches(self):
        self.check_runs("mixed", first_grid=-1)

    @unittest.skipUnless(LONG, "long, and mixed batches have chunks as well: DOVETAIL_LONG_TESTS=1")
    def test_chunks_behind_contexts(self):
        self.check_runs("chunk")

    def test_decode_steps(self):
        """Of one fixture of each architecture: mixed batches are of all."""
        self.check_runs("steps", fixtures=FIXTURES if LONG else ONE_OF_EACH, first_grid=-1)

    @unittest.skipUnless(LONG, "long, and mixed batches have such steps as well: DOVETAIL_LONG_TESTS=1")
    def test_decode_steps_behind_contexts(self):
        self.check_runs("decode")

    def test_faults_of_all_policies_are_noticed(self):
        self.check_that_common_faults_are_noticed()


class AnchorInBfloat16(AnchorTest):
    POLICIES = MORE_POLICIES

    def test_prefills_and_decode_steps(self):
        for phase in ("prefill", "decode") if LONG else ("decode",):
            self.check_runs(phase, "bfloat16", first_grid=-1)


if __name__ == "__main__":
    unittest.main()
