"""What tests of sweeps share."""
import hashlib
import json

from cli import BIN, MPIRUN, CliTest, execute

LINK = "emulated: 20 us, 0.5 GB/s"

BASE = """
experiment: small
model: {architecture: qwen3_moe, config: tests/fixtures/qwen3-moe-tiny/config.json, weights: {checkpoint: tests/fixtures/qwen3-moe-tiny}}
parallel: {expert_parallel: 2}
workload: {phase: prefill, requests: {count: 2, length: 12}, seed: 9}
execution: {warmup: 0, iterations: 2, timeout_s: 20}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2}
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, logits]}
"""


def digests(folder):
    """Name and content of every file, and when it was last written."""
    return {str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*")) if path.is_file()}


class SweepTest(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"

    def file(self, axes="", base=BASE):
        return self.write(base + (f"sweep:\n{axes}" if axes else ""), "sweep.yaml")

    def command(self, path, *arguments, ranks=2, out=None):
        return [*MPIRUN, "-np", str(ranks), BIN, "run", str(path), "--out", str(out or self.out), *map(str, arguments)]

    def run_sweep(self, path, *arguments, code=0, **options):
        outcome = execute(self.command(path, *arguments, **options), limit_s=120)
        self.assertEqual(outcome.code, code, str(outcome))
        return outcome

    def read(self):
        return json.loads((self.out / "sweep.json").read_text())

    def summary(self, point, row):
        return json.loads((self.out / point["folder"] / row["policy"] / "summary.json").read_text())

    def statuses(self):
        return [point["status"] for point in self.read()["points"]]

    def folders(self):
        return sorted(path.name for path in self.out.iterdir() if path.is_dir())
