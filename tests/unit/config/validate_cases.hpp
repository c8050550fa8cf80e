// What tests of the rules between values share.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/config/validate.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail::testing {

/// Why an experiment is refused; empty = it is not.
inline std::string error_of(const std::string& text,
                            std::optional<int> num_ranks = 2,
                            const Capabilities& capabilities = host_capabilities(),
                            const std::vector<std::string>& overrides = {}) {
  return input_error_of(
      [&] { validate(parse_experiment(text, "bad.yaml", overrides), capabilities, num_ranks); });
}

struct BadCase {
  std::string from, to, place, fragment;
};

inline void expect_errors(const std::vector<BadCase>& cases) {
  for (const BadCase& bad : cases) {
    const std::string what = error_of(replaced(kSmall, bad.from, bad.to));
    EXPECT_TRUE(what.starts_with("bad.yaml:" + bad.place + ": "))
        << bad.to << "\nplace " << bad.place << "\n"
        << what;
    EXPECT_NE(what.find(bad.fragment), std::string::npos) << bad.to << "\n" << what;
  }
}

inline void expect_good(const std::vector<std::pair<std::string, std::string>>& changes) {
  for (const auto& [from, to] : changes) {
    EXPECT_EQ(error_of(replaced(kSmall, from, to)), "") << to;
  }
}

/// The experiment with other values of `execution`.
inline std::string executed(const std::string& execution) {
  return replaced(kSmall, "iterations: 10", execution);
}

}  // namespace dovetail::testing
