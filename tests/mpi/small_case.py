"""What tests of the whole program share that run one small experiment, in six policies."""
from cli import CliTest

SMALL = """
experiment: small
model: {architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}
parallel: {expert_parallel: %(ep)d}
workload: {phase: prefill, requests: {count: %(count)d, length: 24}, seed: 9}
execution: {warmup: 1, iterations: 2, timeout_s: 20}
policies:
  - {name: sequential}
  - {name: shared_expert}
  - {name: dual_batch, ubatches: 2}
  - {name: dual_inline, schedule: dual_batch, ubatches: 2, hand_off: inline}
  - {name: dual_gather, schedule: dual_batch, ubatches: 2, exchange: gather}
  - {name: dual_3, schedule: dual_batch, ubatches: 3, split: request}
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, logits, layers, routing], timing: ops, profiled_iterations: 1}
"""


class SmallTest(CliTest):
    def experiment(self, text=SMALL, **values):
        return self.write(text % {"ep": 2, "count": 4, **values} if "%(" in text else text)
