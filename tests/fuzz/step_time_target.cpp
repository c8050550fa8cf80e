// Tables of step times, which the policy `auto` reads.
#include "framework/plan/step_time_table.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"

namespace dovetail::fuzz {
namespace {

std::vector<std::string> seeds() {
  return files({"experiments/auto_table.json"});
}

std::vector<std::string> tokens() {
  return json_tokens_and({"\"comm_sms\": 8, ",
                          "\"comm_sms\": \"all\", ",
                          "\"split\": \"request\", ",
                          "\"step_ms_error\": 1, ",
                          "\"step_times\": {"});
}

bool accepts(const std::string& bytes) {
  return is_read("fuzz", [&] {
    const auto table = parse_step_time_table(bytes, "fuzz");
    const auto again = parse_step_time_table(step_time_table_to_json(table), "again");
    require(again.points == table.points && again.setting == table.setting,
            "what is written reads as another table");
  });
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz
