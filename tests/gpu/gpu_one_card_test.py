#!/usr/bin/env python3
"""One visible GPU a rank, as `srun --gpus-per-task=1` gives them: the ranks still share memory, and what the environment spoils is said.

gpu_one_card_test.py [unittest arguments]
"""
import json
import os
import subprocess
import unittest

from gpu_cases import BIN, LIMIT_S, MPIRUN, TINY, GpuTest, execute

EXPERIMENT = f"""
experiment: one_card
model: {TINY}
parallel: {{expert_parallel: 2}}
workload: {{phase: prefill, requests: {{count: 4, length: 24}}, seed: 9}}
execution: {{device: cuda, dtype: bfloat16, warmup: 1, iterations: 2, exchange: auto, timeout_s: 20}}
policies:
  - {{name: sequential}}
  - {{name: dual_batch, ubatches: 2}}
verify: {{baseline: sequential, mode: tolerance, routing: replay}}
record: {{outputs: [hidden, routing], timing: steps}}
"""
# As a launcher does for each task.
WRAPPER = """#!/bin/sh
cards="%s"
index=0
for card in $cards; do
  if [ "$index" = "$OMPI_COMM_WORLD_LOCAL_RANK" ]; then CUDA_VISIBLE_DEVICES=$card; export CUDA_VISIBLE_DEVICES; fi
  index=$((index + 1))
done
exec "$@"
"""


def cards():
    """Of two GPUs: (their numbers, their names for NVML), as CUDA_VISIBLE_DEVICES has them."""
    told = subprocess.run(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=True).stdout.split()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    numbers = [int(name) for name in visible if name.isdigit()] or list(range(len(told)))
    return [str(number) for number in numbers[:2]], [told[number] for number in numbers[:2]]


class GpuOneCardEach(GpuTest):
    NEEDED = 2
    MAY_SHARE = False

    def start(self, visible, name, *arguments, code=0, **environment):
        """Two ranks, of which each sees one of `visible`."""
        wrapper = self.write(WRAPPER % " ".join(visible), f"{name}.sh")
        wrapper.chmod(0o755)
        path = self.write(EXPERIMENT, f"{name}.yaml")
        outcome = execute([*MPIRUN, "-np", "2", str(wrapper), BIN, "run", str(path), "--out", str(self.folder / name), *arguments], limit_s=LIMIT_S,
                          environment=environment)
        self.assertEqual(outcome.code, code, f"CUDA_VISIBLE_DEVICES {visible}\n{outcome}")
        return self.folder / name, outcome

    def test_they_share_memory(self):
        for kind, visible in zip(("number", "uuid"), cards()):
            with self.subTest(named_by=kind, visible=visible):
                run, outcome = self.start(visible, kind)
                self.assertRegex(outcome.out, r"policy dual_batch step_ms \S+ verdict verified")
                for policy in ("sequential", "dual_batch"):
                    for rank, device in enumerate(self.attributes(run / policy, "device")):
                        self.assertIn("cuda:0 ", device, f"rank {rank} sees one GPU")
                    for rank, resolved in enumerate(map(json.loads, self.attributes(run / policy, "resolved_execution"))):
                        self.assertEqual(resolved["exchange"], "symmetric", f"{policy}, rank {rank}: {resolved['exchange_reason']}")

    def test_the_same_card_for_both_names_both(self):
        for kind, (card, _) in zip(("number", "uuid"), cards()):
            with self.subTest(named_by=kind, card=card):
                _, outcome = self.start([card, card], f"same-{kind}", code=2)
                self.assertRegex(outcome.err, "rank 1 on host .* sees 1 GPU, which rank 0 holds")

    def test_what_takes_overlap_away_is_said_and_recorded(self):
        run, outcome = self.start(cards()[0], "hindered", "--policy", "sequential", "--set", "verify.mode=none", CUDA_LAUNCH_BLOCKING="1",
                                  CUDA_DEVICE_MAX_CONNECTIONS="1")
        warnings = [line for line in outcome.err.splitlines() if "warning: the environment bends what is measured: " in line]
        self.assertEqual(len(warnings), 1, str(outcome))
        for variable in ("CUDA_LAUNCH_BLOCKING=1: ", "CUDA_DEVICE_MAX_CONNECTIONS=1: "):
            self.assertIn(variable, warnings[0])
            for rank, recorded in enumerate(self.attributes(run / "sequential", "overlap_hindrances")):
                self.assertIn(variable, recorded, f"rank {rank}")
        run, outcome = self.start(cards()[0], "free", "--policy", "sequential", "--set", "verify.mode=none", CUDA_LAUNCH_BLOCKING="0")
        self.assertNotIn("bends what is measured", outcome.err)
        self.assertEqual(self.attributes(run / "sequential", "overlap_hindrances"), ["none", "none"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
