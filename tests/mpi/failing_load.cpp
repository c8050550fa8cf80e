// Two replicas load a model, and making it fails in the way that the argument names. expect_end.py
// looks on from outside: no rank may wait for one that has failed.
#include <chrono>
#include <exception>
#include <iostream>
#include <string>

#include "framework/base/log.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/run/set_up.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

/// Has every tensor, or cannot be read.
class FakeSource final : public WeightSource {
 public:
  explicit FakeSource(bool fails) : fails_(fails) {}

  bool has(const std::string& name) const override {
    if (fails_) {
      throw InputError("weights.safetensors: " + name + " cannot be read");
    }
    return true;
  }

  void read(const WeightRequest& /*request*/) override {}

 private:
  bool fails_;
};

/// "none", "one_replica_fails" or "file_cannot_be_read".
ModelCatalog failing_catalog(const std::string& failure,
                             const Ranks& ranks,
                             Registry<ArchitectureFactory>& architectures) {
  const bool fails_here = failure == "one_replica_fails" && ranks.dp_rank() == DpRank(1);
  architectures.add("fake", "for tests", [fails_here](const ModelConfig&) {
    return std::make_unique<testing::FakeArchitecture>(
        [fails_here](WeightSource& weights, const ModelPlacement&) {
          log_line("failing now");
          if (fails_here) {
            throw RunError("no memory for layer 1");
          }
          weights.has("first");
          weights.has("second");
          return testing::make_fake_model();
        });
  });
  return {architectures, [fails = failure == "file_cannot_be_read"](const WeightsConfig&) {
            return std::make_unique<FakeSource>(fails);
          }};
}

int load_and_fail(int argc, char** argv) {
  const std::string failure = argc > 1 ? argv[1] : "none";
  const SignalWatch signals;
  const MpiSession session(&argc, &argv);
  set_log_rank(session.rank().value);
  const auto grid = make_grid(session.world_size(), 1);
  const auto groups = make_rank_groups(session, grid);
  FailureChannel failures(groups.control);
  const auto experiment = testing::fake_experiment(
      "workload: {requests: {count: 1, length: 1}}\n"
      "execution: {device: cpu, timeout_s: 2}\n"
      "policies: [{name: sequential}]\n");
  const RunContext context = {.ranks = {.session = session,
                                        .grid = grid,
                                        .groups = groups,
                                        .wait = make_wait_policy(experiment, failures, signals)},
                              .signals = signals,
                              .failures = failures,
                              .experiment = experiment};
  Registry<ArchitectureFactory> architectures("architecture");
  const auto models = failing_catalog(failure, context.ranks, architectures);
  try {
    RankDevice device(context.ranks, {});
    const auto architecture = read_architecture(context, models);
    load_model(context, models, *architecture, device);
    return kExitDone;
  } catch (const AgreedError& error) {
    if (context.is_first_rank()) {
      log_line(error.what());
    }
    return error.exit_code();
  } catch (const Error& error) {
    failures.report(error.exit_code(), error.what());
  }
  failures.end();
}

}  // namespace
}  // namespace dovetail

int main(int argc, char** argv) {
  try {
    return dovetail::load_and_fail(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "outside the run: " << error.what() << std::endl;
    return 1;
  }
}
