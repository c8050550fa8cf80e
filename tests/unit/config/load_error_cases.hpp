// Changes of the small experiment that must fail, and the check of what is said then.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/config/load.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail::testing {

/// A change of kSmall and the error that it must give: "bad.yaml:<place>: ...<fragment>...".
struct BadText {
  std::string from, to, place, fragment;
};

inline void expect_errors(const std::vector<BadText>& cases) {
  for (const BadText& bad : cases) {
    const std::string text = replaced(kSmall, bad.from, bad.to);
    const std::string what = input_error_of([&] { parse_experiment(text, "bad.yaml"); });
    EXPECT_TRUE(what.starts_with("bad.yaml:" + bad.place + ": "))
        << bad.to << "\nplace " << bad.place << "\n"
        << what;
    EXPECT_NE(what.find(bad.fragment), std::string::npos) << bad.to << "\n" << what;
  }
}

}  // namespace dovetail::testing
