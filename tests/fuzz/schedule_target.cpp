// Schedule files.
#include "framework/base/error.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/schedule_json.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail::fuzz {
namespace {

std::vector<std::string> seeds() {
  auto found = files({"experiments/own_schedule.json"});
  for (const auto& schedule : testing::all_policy_schedules({testing::kMoe})) {
    if (found.size() < 12) {
      found.push_back(schedule_to_json(schedule));
    }
  }
  return found;
}

std::vector<std::string> tokens() {
  return json_tokens_and({"\"waits\": [0]",
                          "\"layer\": -1",
                          "\"comm\"",
                          "\"compute\"",
                          "\"dispatch\"",
                          "\"num_groups\": 2, ",
                          "\"group\": 0, "});
}

bool accepts(const std::string& bytes) {
  return is_read("fuzz", [&] {
    const auto schedule = schedule_from_json(bytes, "fuzz");
    require(schedule_from_json(schedule_to_json(schedule), "again") == schedule,
            "what is written reads as another schedule");
    try {
      check_schedule(schedule);
    } catch (const InputError& error) {
      throw InputError(std::string("fuzz: ") + error.what());
    }
  });
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz
