"""tests/auto_choice.py: what it says of a point, and which points it tries; its sweeps are measurements, and run by hand."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import auto_choice  # noqa: E402: it lies one folder up


class Judge(unittest.TestCase):
    def test_each_verdict(self):
        for expected, ran_better, ratio, low, high in (
                ("ok", True, 1.000, 0.98, 1.02),
                ("slower by chance", True, 1.040, 0.99, 1.09),
                ("SLOWER", True, 1.040, 1.02, 1.06),
                ("WRONG CHOICE", False, 1.040, 0.99, 1.09),
                ("WRONG CHOICE", False, 1.001, 0.98, 1.02),
                ("ok", False, 1.004, 0.999, 1.009),
                ("ok", False, 0.990, 0.980, 1.000),
                ("SLOWER", False, 1.040, 1.02, 1.06)):
            self.assertEqual(auto_choice.judge(ran_better, ratio, low, high), expected, (ran_better, ratio, low, high))
        self.assertIn("WRONG CHOICE", auto_choice.FAILURES)
        self.assertNotIn("slower by chance", auto_choice.FAILURES)

    def test_points_between_and_beyond(self):
        self.assertEqual(auto_choice.further_values([1, 2, 8]), [5, 16])
        self.assertEqual(auto_choice.further_values([32, 8, 16]), [4, 12, 24, 64])
        self.assertEqual(auto_choice.further_values([0.5, 2]), [0.25, 1.25, 4])
        text = "a: 1\nsweep:\n  workload.requests.count: [2, 6]\n  execution.link.gbytes_per_s: [1, 2]\n  workload.routing: [balanced, natural]\n"
        self.assertEqual(auto_choice.with_further_points(text), text.replace("[2, 6]", "[1, 2, 4, 6, 12]"))

    def test_where_a_point_lies(self):
        table = {"points": [{"values": {"count": count, "routing": "natural"}} for count in (2, 6)]}
        for count, expected in ((2, "in table"), (4, "between"), (1, "beyond"), (12, "beyond")):
            self.assertEqual(auto_choice.place_of({"values": {"count": count, "routing": "natural"}}, table), expected)


if __name__ == "__main__":
    unittest.main()
