"""tests/equal_policies.py: which experiment it runs, and what it says of the claims; its runs are measurements, and made by hand."""
import argparse
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import equal_policies  # noqa: E402: it lies one folder up


def settings(**options):
    given = {"pairs": 2, "ranks": 2, "first": "schedule: sequential", "second": None, "plant": None, **options}
    return dict(equal_policies.settings_of(argparse.Namespace(**given), 7))


class Settings(unittest.TestCase):
    def test_copies_of_one_policy(self):
        found = settings()
        self.assertEqual(found["policies"], "[" + ", ".join(f"{{name: copy_{i}, schedule: sequential}}" for i in range(4)) + "]")
        self.assertEqual((found["fault"], found["execution.round_seed"], found["parallel.expert_parallel"]), ("none", 7, 2))
        self.assertIn("copy_1, schedule: dual_batch}, {name: copy_2, schedule: sequential}", settings(second="schedule: dual_batch")["policies"])

    def test_a_planted_delay_is_in_the_second_of_each_pair(self):
        found = settings(plant=250)
        self.assertEqual(found["policies"], settings()["policies"])
        self.assertEqual(found["fault"], "[" + ", ".join(
            f"{{kind: delay, rank: 0, layer: 0, phase: attention, policy: copy_{i}, delay_us: 250}}" for i in (1, 3)) + "]")


class Judge(unittest.TestCase):
    def test_claims_on_the_wrong_side(self):
        speed_ups, claims = [0.98, 0.99, 1.02], [0.98, 1.02]
        self.assertEqual(equal_policies.judge(speed_ups, claims, None),
                         "median speed-up 0.9900; 2 of 3 comparisons claim a difference, 1 of them on the other side of 1")
        self.assertTrue(equal_policies.judge(speed_ups, claims, 0.99).startswith("planted speed-up 0.9900, median speed-up 0.9900; 2 of 3"))
        # The side is that of what was planted, whatever most pairs say.
        self.assertTrue(equal_policies.judge([1.02, 1.03], [1.02, 1.03], 0.99).endswith("2 of them on the other side of 1"))


if __name__ == "__main__":
    unittest.main()
