// Traces of requests.
#include "framework/base/error.hpp"
#include "framework/plan/request_trace.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"

namespace dovetail::fuzz {
namespace {

std::vector<std::string> seeds() {
  auto found = files({"experiments/mixed_trace.jsonl"});
  found.emplace_back(
      "{\"length\": 12}\n"
      "{\"input_ids\": [1, 2, 3], \"context_length\": 7, \"rank\": 1}\n"
      "{\"context_length\": 4}\n"
      "{\"length\": 1.0, \"context_ids\": [9, 8]}\r\n\n");
  return found;
}

std::vector<std::string> tokens() {
  return json_tokens_and({"\n",
                          "\r\n",
                          "1e9",
                          "\"rank\": 1",
                          "\"length\"",
                          "\"input_ids\": [7]",
                          "\"context_length\"",
                          "{\"length\": 3}\n"});
}

/// Refusals say what is allowed, too.
RequestTrace parse(const std::string& bytes) {
  try {
    return parse_request_trace(bytes, "fuzz");
  } catch (const InputError& error) {
    const std::string message = error.what();
    require(message.find("; allowed: ") != std::string::npos, "nothing is allowed: " + message);
    throw;
  }
}

bool accepts(const std::string& bytes) {
  return is_read("fuzz:", [&] {
    const auto trace = parse(bytes);
    require(!trace.requests.empty(), "a trace without requests");
    for (const auto& request : trace.requests) {
      require(request.length >= 0 && request.length <= kMaxTraceNumber &&
                  request.context_length >= 0 && request.context_length <= kMaxTraceNumber &&
                  request.rank.value_or(0) >= 0 && request.rank.value_or(0) <= kMaxTraceRank,
              "a number beyond its bounds in line " + std::to_string(request.line));
    }
    check_token_ids(trace, 256);
  });
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz
