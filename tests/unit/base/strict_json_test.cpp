// JSON that others wrote: what the library alone would take is refused, with its place; what is
// right is read as the library reads it, whatever the damage.
#include "framework/base/strict_json.hpp"

#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/text.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

std::string error_of(std::string_view text, const JsonSource& source = {.file = "f.json"}) {
  return testing::input_error_of([&] { parse_strict_json(text, source); });
}

std::string with_nul(const std::string& before, const std::string& after) {
  return before + std::string(1, '\0') + after;
}

TEST(StrictJson, ReadsAnyValue) {
  for (const char* text : {"{}", "[1, -2.5e3]", "\"a\\u0000b\"", "null", " 7 ", "\xef\xbb\xbf{}"}) {
    EXPECT_EQ(parse_strict_json(text, {.file = "f"}), json::parse(text)) << text;
  }
}

TEST(StrictJson, TakesNonFiniteNumbersAsTheirNamesWhereAskedTo) {
  const JsonSource source = {.file = "f", .takes_non_finite = true};
  const json value = parse_strict_json(
      R"({"a": [NaN,-Infinity,Infinity], "NaN \" Infinity": "-Infinity", "b": 1})", source);
  EXPECT_EQ(value, json::parse(R"({"a": ["NaN", "-Infinity", "Infinity"],
                                   "NaN \" Infinity": "-Infinity", "b": 1})"));
  EXPECT_EQ(parse_strict_json("NaN", source), json("NaN"));
  EXPECT_NE(error_of("[NaN]"), "") << "elsewhere they are no JSON";
  for (const char* text :
       {"[NaNs]", "[+Infinity]", "[1Infinity]", "[Infinity2]", "{NaN: }", "[\""}) {
    EXPECT_NE(error_of(text, source), "") << text;
  }
  EXPECT_EQ(error_of("{\"a\": NaN,\n \"b\": 1, \"b\": 2}", source),
            error_of("{\"a\": 123,\n \"b\": 1, \"b\": 2}", source))
      << "places are those of the text";
}

TEST(StrictJson, RefusesNulBytes) {
  EXPECT_EQ(error_of(with_nul("{}", "x")), "f.json: not JSON: a NUL byte in line 1, byte 2");
  EXPECT_EQ(error_of(with_nul("{}\n", "")), "f.json: not JSON: a NUL byte in line 2, byte 3");
  EXPECT_NE(error_of(with_nul("{\"a", "\": 1}")), "");
  EXPECT_NE(error_of(with_nul("", "")), "");
}

TEST(StrictJson, RefusesKeysThatAreThereTwice) {
  EXPECT_EQ(error_of("{\"a\": 1,\n \"b\": {\"a\": 2, \"a\": 3}}"),
            "f.json: line 2, byte 26: key 'a' is there twice in one object");
  EXPECT_EQ(error_of("{\"a\": 1, \"\\u0061\": 1}"),
            "f.json: line 1, byte 16: key 'a' is there twice in one object");
  EXPECT_EQ(error_of("[{\"a\": 1}, {\"a\": {\"a\": 1}}]"), "");
  const std::string key(1000, 'k');
  EXPECT_LT(error_of("{\"" + key + "\": 1, \"" + key + "\": 1}").size(), 400U);
  EXPECT_NE(error_of(R"({"a\nb": 1, "a\nb": 1})").find("key 'a?b'"), std::string::npos);
}

TEST(StrictJson, RefusesValuesTooDeepWithinEachOther) {
  EXPECT_EQ(error_of("[[1], [2]]", {.file = "f", .max_depth = 2}), "");
  EXPECT_EQ(error_of("[[1],\n [{}]]", {.file = "f", .max_depth = 2}),
            "f: line 2, byte 8: values too deep within each other; allowed: at most 2 arrays and "
            "objects");
  EXPECT_EQ(error_of("7", {.file = "f", .max_depth = 0}), "");
  const std::string deepest = std::string(16, '[') + std::string(16, ']');
  EXPECT_EQ(error_of(deepest), "") << "16 without a word";
  EXPECT_EQ(error_of("[" + deepest + "]").find("f.json: line 1, byte 16: values too deep"), 0U);
  EXPECT_NE(error_of(std::string(1'000'000, '[')), "");
  EXPECT_EQ(error_of("\"" + std::string(60, '[') + "\\\"" + std::string(60, '{') + "\""), "")
      << "brackets in a string open nothing";
}

TEST(StrictJson, RefusesWhatIsNoJson) {
  EXPECT_TRUE(error_of("").starts_with("f.json: not JSON: "));
  EXPECT_NE(error_of("{\n \"a\": 1,\n oops}").find("line 3, column 2"), std::string::npos);
  for (const char* text : {"{}{}", "{,}", "NaN", "1e999", "{\"a\": \"\xff\"}", "// c\n1", "[1,]"}) {
    EXPECT_TRUE(error_of(text).starts_with("f.json: not JSON: ")) << text;
  }
  const std::string what = error_of("\"" + std::string(100'000, 'x') + "\n");
  EXPECT_LT(what.size(), 300U);
  EXPECT_EQ(what.find('\n'), std::string::npos);
}

TEST(StrictJson, SaysWhichLineAndWhatIsAllowed) {
  const JsonSource source{.file = "t.jsonl", .line = 7, .max_depth = 1, .allowed = "{\"n\": 1}"};
  EXPECT_EQ(error_of("{\"n\": []}", source),
            "t.jsonl:7: byte 6: values too deep within each other; allowed: {\"n\": 1}");
  EXPECT_EQ(error_of("{\"n\": 1, \"n\": 1}", source),
            "t.jsonl:7: byte 11: key 'n' is there twice in one object; allowed: {\"n\": 1}");
  EXPECT_EQ(error_of(with_nul("1", ""), source),
            "t.jsonl:7: not JSON: a NUL byte in byte 1; allowed: {\"n\": 1}");
  EXPECT_TRUE(error_of("", source).ends_with("; allowed: {\"n\": 1}"));
}

/// Damaged texts: refused in one short line, or what the library reads, which prints to a text
/// without a lost key.
TEST(StrictJson, DamagedTextsAreRefusedOrReadWhole) {
  const std::string good = R"({"a": [1, {"b": "x\n", "c": null}], "d": {"a": -1.5e2}, "e": true})";
  const std::string telling = std::string(R"({}[]":,-0123456789eE.\u)") + '\0' + "\n\xff";
  std::mt19937_64 random(20'240'812);  // NOLINT(cert-msc51-cpp): deterministic on purpose
  int accepted = 0;
  constexpr int rounds = 30'000;
  for (int round = 0; round < rounds; ++round) {
    std::string text = good;
    for (auto changes = 1 + random() % 3; changes > 0; --changes) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = telling[random() % telling.size()];
          break;
        case 1:
          text.insert(at, 1, telling[random() % telling.size()]);
          break;
        case 2:
          text.erase(at, 1 + random() % 4);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
      }
      text = text.empty() ? good : text;
    }
    try {
      const json value = parse_strict_json(text, {.file = "fuzz", .max_depth = 3});
      ASSERT_EQ(value, json::parse(text)) << text;
      ASSERT_EQ(text.find('\0'), std::string::npos);
      ++accepted;
    } catch (const InputError& error) {
      const std::string what = error.what();
      ASSERT_TRUE(what.starts_with("fuzz: ")) << what;
      ASSERT_EQ(what.find_first_of(std::string("\n\0", 2)), std::string::npos) << what;
      ASSERT_LT(what.size(), 400U) << what;
    }
  }
  EXPECT_GT(accepted, rounds / 100);
  EXPECT_LT(accepted, rounds / 2);
}

TEST(JsonReader, WholeNumbersWithinTheirRange) {
  const auto find = [](const char* text) { return find_json_int(json::parse(text), -3, 7); };
  EXPECT_EQ(find("-3"), -3);
  EXPECT_EQ(find("7"), 7);
  for (const char* text : {"-4",
                           "8",
                           "7.0",
                           "1e0",
                           "true",
                           "null",
                           "\"3\"",
                           "[3]",
                           "9223372036854775808",
                           "18446744073709551615",
                           "-9223372036854775808"}) {
    EXPECT_EQ(find(text), std::nullopt) << text;
  }
  EXPECT_EQ(find_json_int(json::parse("9223372036854775807"), 0, INT64_MAX), INT64_MAX);
}

TEST(JsonReader, ErrorsShowLittleOfWhatWasFound) {
  EXPECT_EQ(testing::input_error_of([] { read_json_int("x\ny", "f: n", 0, 9); }),
            "f: n: an integer from 0 to 9 is needed, not \"x\\ny\"");
  const std::string shown =
      testing::input_error_of([] { read_json_int(std::string(5000, 'a'), "f: n", 0, 9); });
  EXPECT_TRUE(shown.ends_with("aaa...")) << shown;
  EXPECT_LT(shown.size(), 260U);
  EXPECT_EQ(testing::input_error_of([] { read_json_object(json::array(), "f"); }),
            "f: an object is needed, not array");
  EXPECT_EQ(testing::input_error_of([] {
              check_json_keys({{"a\nb", 1}}, "f", {"c"});
            }),
            "f: unknown key 'a?b'; allowed: c");
}

TEST(PrintableJson, IsOneShortLine) {
  EXPECT_EQ(printable_json({{"a", {1, "ü\n"}}}), R"({"a":[1,"ü\n"]})");
  EXPECT_EQ(printable_json("\xff"), "\"\xef\xbf\xbd\"");
  EXPECT_EQ(printable_json(std::string(300, 'a')).size(), kMaxLongQuoteBytes + 3);
}

}  // namespace
}  // namespace dovetail
