// Traces of requests: what is read, where and how everything else fails.
#include "framework/plan/request_trace.hpp"

#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"

namespace dovetail {
namespace {

const std::string kGood =
    "{\"length\": 12}\n"
    "{\"input_ids\": [1, 2, 3], \"context_length\": 7, \"rank\": 1}\n"
    "{\"context_length\": 4}\n"
    "{\"length\": 1, \"context_ids\": [9, 8]}\n";

std::string error_of(const std::string& text) {
  return testing::input_error_of([&] { parse_request_trace(text, "t.jsonl"); });
}

TEST(RequestTrace, ReadsWhatIsStated) {
  const RequestTrace trace = parse_request_trace(kGood, "t.jsonl");
  EXPECT_EQ(trace.file, "t.jsonl");
  ASSERT_EQ(trace.requests.size(), 4U);
  EXPECT_EQ(trace.requests[0].length, 12);
  EXPECT_EQ(trace.requests[0].rank, std::nullopt);
  EXPECT_TRUE(trace.requests[0].input_ids.empty());
  EXPECT_EQ(trace.requests[1].length, 3);
  EXPECT_EQ(trace.requests[1].context_length, 7);
  EXPECT_EQ(trace.requests[1].rank, 1);
  EXPECT_EQ(trace.requests[1].input_ids, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(trace.requests[2].length, 0) << "not stated";
  EXPECT_EQ(trace.requests[2].line, 3);
  EXPECT_EQ(trace.requests[3].context_length, 2);
  EXPECT_EQ(trace.requests[3].context_ids, (std::vector<std::int64_t>{9, 8}));
}

TEST(RequestTrace, LineEndsDoNotMatter) {
  const auto digest = parse_request_trace(kGood, "t.jsonl").digest;
  std::string windows;
  for (const char c : kGood) {
    windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
  }
  EXPECT_EQ(parse_request_trace(windows, "t.jsonl").digest, digest);
  EXPECT_EQ(parse_request_trace(kGood.substr(0, kGood.size() - 1), "t.jsonl").digest, digest);
  EXPECT_EQ(parse_request_trace(kGood, "t.jsonl").requests.size(), 4U);
}

TEST(RequestTrace, BlankLinesMayFollow) {
  const auto digest = parse_request_trace(kGood, "t.jsonl").digest;
  for (const char* end : {"\n", "\r\n", " ", "\n\n\t\n  ", "\n\r\n"}) {
    EXPECT_EQ(parse_request_trace(kGood + end, "t.jsonl").digest, digest) << end;
  }
}

TEST(RequestTrace, NumbersMayHaveAPoint) {
  const auto trace = parse_request_trace(
      "{\"length\": 512.0, \"context_length\": 1e3, \"rank\": 1.0}\n"
      "{\"input_ids\": [3.0, 4], \"context_ids\": [0.0]}\n",
      "t.jsonl");
  const auto plain = parse_request_trace(
      "{\"length\": 512, \"context_length\": 1000, \"rank\": 1}\n"
      "{\"input_ids\": [3, 4], \"context_ids\": [0]}\n",
      "t.jsonl");
  EXPECT_EQ(trace.requests[0].length, 512);
  EXPECT_EQ(trace.requests[0].rank, 1);
  EXPECT_EQ(trace.digest, plain.digest);
}

TEST(RequestTrace, OtherFormatsAreNamed) {
  for (const char* text : {"[\n{\"length\": 1}\n]\n", "[{\"length\": 1}, {\"length\": 2}]"}) {
    EXPECT_TRUE(
        error_of(text).starts_with("t.jsonl:1: a JSON array; allowed: one JSON object a line, {"))
        << error_of(text);
  }
  for (const char* text :
       {R"({"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46]})",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"}) {
    EXPECT_TRUE(error_of(text).starts_with(
        "t.jsonl:1: a trace in another format; allowed: what launch/convert_trace.py makes of it"))
        << error_of(text);
  }
}

TEST(RequestTrace, TheDigestSeesEveryValueAndTheOrder) {
  const auto digest = parse_request_trace(kGood, "t.jsonl").digest;
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"12", "13"},
           {"2, 3]", "2, 4]"},
           {"2, 3]", "2]"},
           {"9, 8]", "8, 9]"},
           {"\"context_ids\": [9, 8]", "\"context_length\": 2"},
           {"7", "8"},
           {"\"rank\": 1", "\"rank\": 0"},
           {", \"rank\": 1", ""},
           {": 4", ": 5"},
           {"{\"length\": 12}\n", ""}}) {
    std::string text = kGood;
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    EXPECT_NE(parse_request_trace(text.replace(at, from.size(), to), "t.jsonl").digest, digest)
        << from;
  }
  EXPECT_NE(parse_request_trace("{\"length\": 1}\n{\"length\": 2}", "t").digest,
            parse_request_trace("{\"length\": 2}\n{\"length\": 1}", "t").digest);
}

TEST(RequestTrace, BadLines) {
  struct BadCase {
    std::string line, fragment;
  };

  const std::vector<BadCase> cases = {
      {"", "an empty line"},
      {"\r", "an empty line"},
      {" ", "not JSON"},
      {"{\"length\": 1", "not JSON"},
      {"{\"length\": 1} {}", "not JSON"},
      {"{\"length\": nan}", "not JSON"},
      {"{\"length\": 1e999}", "not JSON"},
      {"\xff", "not JSON"},
      {std::string(1, '\0'), "not JSON"},
      {"{\"length\": 1}" + std::string("\0x", 2), "not JSON: a NUL byte in byte 13"},
      {"[1]", "array [1]"},
      {"7", "number 7"},
      {"null", "null null"},
      {"{\"lenght\": 1}", "unknown key 'lenght'"},
      {"{\"length\": 1, \"id\": 3}", "unknown key 'id'"},
      {"{\"length\": 1, \"length\": 1}", "byte 21: key 'length' is there twice"},
      {"{\"length\": 1, \"input_ids\": [1]}", "both length and input_ids; allowed: one of them"},
      {"{\"context_length\": 1, \"context_ids\": [1]}",
       "both context_length and context_ids; allowed: one of them"},
      {"{\"context_ids\": [1, -1]}", "context_ids[1] is number -1"},
      {"{\"length\": 0}", "length is number 0; allowed: a whole number from 1 to 1000000000"},
      {"{\"length\": -3}", "length is number -3"},
      {"{\"length\": 1000000001}", "length is number 1000000001"},
      {"{\"length\": 18446744073709551615}", "length is number 18446744073709551615"},
      {"{\"length\": 99999999999999999999999}", "length is number 9.99"},
      {"{\"length\": 512.5}", "length is number 512.5"},
      {"{\"length\": 1e300}", "length is number 1e+300"},
      {"{\"length\": \"1\"}", "length is string"},
      {"{\"length\": null}", "length is null"},
      {"{\"length\": true}", "length is boolean true"},
      {"{\"length\": [1]}", "length is array [1]"},
      {"{\"length\": {\"a\": 1}}", "length is object"},
      {"{\"length\": 1, \"context_length\": -1}", "context_length is number -1; allowed: a whole"},
      {"{\"length\": 1, \"context_length\": 1000000001}", "context_length is number 1000000001"},
      {"{\"length\": 1, \"rank\": -1}", "rank is number -1; allowed: a whole number from 0"},
      {"{\"length\": 1, \"rank\": 1000001}", "rank is number 1000001"},
      {"{\"length\": 1, \"rank\": 0.5}", "rank is number 0.5"},
      {"{\"input_ids\": []}", "input_ids is array []; allowed: a list of at least one"},
      {"{\"input_ids\": 3}", "input_ids is number 3"},
      {"{\"input_ids\": [1, -1]}", "input_ids[1] is number -1"},
      {"{\"length\": 0.0}", "length is number 0.0"},
      {"{\"input_ids\": [1, 2.5]}", "input_ids[1] is number 2.5"},
      {"{\"input_ids\": [1, \"a\"]}", "input_ids[1] is string"},
      {"{\"input_ids\": [[1]]}", "values too deep within each other"},
      {"{\"input_ids\": [1, 1000000001]}", "input_ids[1] is number 1000000001"},
      {std::string(100'000, '['), "values too deep within each other"},
      {"{\"a\\nb\": 1}", "unknown key 'a?b'"},
  };
  for (const BadCase& bad : cases) {
    const std::string what = error_of("{\"length\": 1}\n" + bad.line + "\n{\"length\": 1}\n");
    EXPECT_TRUE(what.starts_with("t.jsonl:2: ")) << bad.line.substr(0, 80) << "\n" << what;
    EXPECT_NE(what.find(bad.fragment), std::string::npos) << bad.line.substr(0, 80) << "\n" << what;
    EXPECT_NE(what.find("; allowed: "), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    EXPECT_LT(what.size(), 600U) << what;
  }
  EXPECT_EQ(error_of(kGood), "");
  EXPECT_TRUE(error_of("").starts_with("t.jsonl:1: an empty file; allowed: lines"));
  EXPECT_TRUE(error_of("\n").starts_with("t.jsonl:1: an empty line"));
  EXPECT_TRUE(error_of("\n" + kGood).starts_with("t.jsonl:1: an empty line"));
  EXPECT_TRUE(error_of(kGood + "\n \n" + kGood).starts_with("t.jsonl:5: an empty line"));
}

TEST(RequestTrace, LongLines) {
  const std::string begin = "{\"length\": 1";
  const std::string longest = begin + std::string(kMaxTraceLineBytes - begin.size() - 1, ' ') + "}";
  EXPECT_EQ(error_of("{\"length\": 1}\n" + longest + "\r\n"), "");
  EXPECT_EQ(error_of("{\"length\": 1}\n" + longest + " \n"),
            "t.jsonl:2: a line of 67108865 bytes; allowed: at most 67108864");
}

TEST(RequestTrace, Files) {
  const ScratchFolder scratch;
  const std::string folder = scratch.path().string() + "/";
  const auto error = [](const std::string& path) {
    return testing::input_error_of([&] { read_request_trace(path); });
  };
  EXPECT_EQ(
      error(folder + "absent.jsonl"),
      folder +
          "absent.jsonl: cannot be opened or read: No such file or directory; allowed: a file of "
          "requests, one a line");
  EXPECT_NE(error(folder).find("cannot be opened or read"), std::string::npos);
  const std::string pipe = folder + "pipe";
  testing::expect_pipe_refused(pipe, [&] { read_request_trace(pipe); });
  const std::string file = folder + "trace.jsonl";
  std::ofstream(file, std::ios::binary) << kGood;
  EXPECT_EQ(read_request_trace(file).digest, parse_request_trace(kGood, "x").digest);
  EXPECT_EQ(read_request_trace(file).file, file);
  std::ofstream(file, std::ios::binary) << kGood << "x";
  EXPECT_TRUE(error(file).starts_with(file + ":5: not JSON")) << error(file);
  std::ofstream(file, std::ios::binary) << "";
  EXPECT_TRUE(error(file).starts_with(file + ":1: an empty file")) << error(file);
}

}  // namespace
}  // namespace dovetail
