// Damaged experiment files: an InputError or an experiment, nothing else.
#include <random>

#include <gtest/gtest.h>

#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

std::string mutate(std::string text, std::mt19937_64& random) {
  static const std::vector<std::string> tokens = {"{",
                                                  "}",
                                                  "[",
                                                  "]",
                                                  ",",
                                                  ":",
                                                  ": ",
                                                  "- ",
                                                  "\n",
                                                  "  ",
                                                  "&a ",
                                                  "*a",
                                                  "!!str ",
                                                  "? ",
                                                  "|",
                                                  ">",
                                                  "\"",
                                                  "'",
                                                  "#",
                                                  "--",
                                                  "\t",
                                                  "~",
                                                  "<<",
                                                  "%",
                                                  "\n---\n",
                                                  "-1",
                                                  "1e999",
                                                  "nan",
                                                  "\xff",
                                                  "\x04",
                                                  "\r",
                                                  std::string(1, '\0'),
                                                  "99999999999999999999",
                                                  "&a [*a]"};
  const auto below = [&random](std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
  };
  for (auto left = 1 + below(4); left > 0; --left) {
    const std::size_t at = below(text.size() + 1);
    switch (below(5)) {
      case 0:
        text.insert(at, tokens[below(tokens.size())]);
        break;
      case 1:
        text.erase(at, below(20));
        break;
      case 2:
        text.insert(at, text.substr(below(text.size() + 1), below(40)));
        break;
      case 3:
        text = text.substr(0, at);
        break;
      default:
        if (at < text.size()) {
          text[at] = static_cast<char>(below(256));
        }
    }
  }
  return text;
}

/// True if the text is an experiment.
bool parses(const std::string& text) {
  try {
    const auto loaded = parse_experiment(text, "fuzz");
    EXPECT_EQ(parse_experiment(dump(loaded.experiment), "dump").experiment, loaded.experiment);
    testing::input_error_of([&] { validate(loaded, testing::host_capabilities(), 2); });
    return true;
  } catch (const InputError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("fuzz:")) << error.what();
    return false;
  }
}

TEST(Fuzz, DamagedTextsGiveInputErrorsOnly) {
  std::mt19937_64 random(20'240'601);  // NOLINT(cert-msc51-cpp): deterministic on purpose
  int num_good = 0;
  constexpr int num_texts = 20'000;
  for (int i = 0; i < num_texts; ++i) {
    const std::string text = mutate(testing::kSmall, random);
    ASSERT_NO_THROW(num_good += parses(text) ? 1 : 0) << text;
  }
  // Both outcomes are common, or the mutations test nothing.
  EXPECT_GT(num_good, num_texts / 100);
  EXPECT_LT(num_good, num_texts / 2);
}

TEST(Fuzz, DamagedOverridesGiveInputErrorsOnly) {
  std::mt19937_64 random(20'240'602);  // NOLINT(cert-msc51-cpp)
  for (int i = 0; i < 5'000; ++i) {
    const std::string setting = mutate("policies.dual_batch.thresholds={prefill: [5]}", random);
    ASSERT_NO_THROW(testing::input_error_of([&] {
      parse_experiment(testing::kSmall, "x", {setting});
    })) << setting;
  }
}

}  // namespace
}  // namespace dovetail
