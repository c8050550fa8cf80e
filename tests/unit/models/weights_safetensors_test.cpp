// The parser believes nothing: each lie of a header is named.
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/weights/safetensors.hpp"
#include "models/weights/safetensors_writer.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using ::dovetail::testing::input_error_of;
using ::dovetail::testing::length_bytes;
using ::dovetail::testing::safetensors_bytes;
using ::dovetail::testing::ScratchFolder;
using ::dovetail::testing::write_file;

SafetensorsHeader parse(const std::string& file) {
  // A copy of exactly this size, so that AddressSanitizer sees a read beyond the end.
  const std::vector<char> exact(file.begin(), file.end());
  return parse_safetensors(std::as_bytes(std::span(exact)), "f.safetensors");
}

const char* const kGood = R"({"__metadata__":{"format":"pt"},)"
                          R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[3,27]},)"
                          R"("b":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},)"
                          R"("c":{"dtype":"BF16","shape":[],"data_offsets":[27,29]},)"
                          R"("empty":{"dtype":"F16","shape":[0,7],"data_offsets":[29,29]}}   )";

const std::string kGoodData(29, 'x');

TEST(Safetensors, ReadsAHeaderWithUnalignedScalarAndEmptyTensors) {
  const SafetensorsHeader header = parse(safetensors_bytes(kGood, kGoodData));
  EXPECT_EQ(header.data_start, 8 + std::strlen(kGood));
  ASSERT_EQ(header.tensors.size(), 4U);
  const StoredTensor& a = header.tensors.at("a");
  EXPECT_EQ(a.dtype, "F32");
  EXPECT_EQ(a.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(a.begin, 3U);
  EXPECT_EQ(a.end, 27U);
  EXPECT_TRUE(header.tensors.at("c").shape.empty());
  EXPECT_EQ(header.tensors.at("empty").begin, header.tensors.at("empty").end);
  EXPECT_TRUE(parse(safetensors_bytes("{}", "")).tensors.empty());
}

struct BadCase {
  std::string label;
  std::string file;
  std::vector<std::string> expected;  // parts of the message
};

std::string one(const std::string& tensor, std::size_t data_bytes = 4) {
  return safetensors_bytes(R"({"w":)" + tensor + "}", std::string(data_bytes, 'x'));
}

const std::string kGoodOne = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
const std::string kSecond = R"("v":{"dtype":"U8","shape":[2],"data_offsets":)";

std::vector<BadCase> bad_files_and_headers() {
  return {
      {"empty file", "", {"has 0 bytes", "8 bytes"}},
      {"seven bytes", "1234567", {"has 7 bytes"}},
      {"length beyond file", length_bytes(100) + "{}", {"length at offset 0 is 100", "only 2"}},
      {"absurd length", length_bytes(~0ULL) + "{}", {"18446744073709551615", "at most 100000000"}},
      {"length over the format's bound", length_bytes(100000001), {"at most 100000000"}},
      {"zero length", length_bytes(0) + "{}", {"does not begin with '{'"}},
      {"list", safetensors_bytes("[]", ""), {"offset 8", "'{'"}},
      {"leading space", safetensors_bytes(" {}", ""), {"'{'"}},
      {"cut json", safetensors_bytes(R"({"w":)", ""), {"header: not JSON"}},
      {"two values", safetensors_bytes("{}{}", ""), {"header: not JSON"}},
      {"not utf-8", safetensors_bytes("{\"\xff\":1}", ""), {"header: not JSON"}},
      {"nul padding", safetensors_bytes(std::string("{}\0", 3), ""), {"header: not JSON"}},
      {"nested",
       one(R"({"dtype":"F32","shape":[[1]],"data_offsets":[0,4]})"),
       {"too deep within each other; allowed: at most 3 "}},
      {"tensor twice",
       safetensors_bytes("{\"w\":" + kGoodOne + ",\"w\":" + kGoodOne + "}", "xxxx"),
       {"key 'w' is there twice"}},
      {"dtype twice",
       one(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})"),
       {"key 'dtype' is there twice"}},
      {"metadata twice",
       safetensors_bytes(R"({"__metadata__":{},"__metadata__":{}})", ""),
       {"'__metadata__' is there twice"}},
      {"metadata no object", safetensors_bytes(R"({"__metadata__":3})", ""), {"__metadata__"}},
      {"metadata value",
       safetensors_bytes(R"({"__metadata__":{"k":1}})", ""),
       {"__metadata__ key 'k' is 1", "a string"}},
  };
}

std::vector<BadCase> bad_types_and_shapes() {
  return {
      {"no object", one("3"), {"tensor 'w'", "not an object"}},
      {"unknown key",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1})"),
       {"tensor 'w'", "unknown key 'x'", "allowed: dtype, shape, data_offsets"}},
      {"no dtype", one(R"({"shape":[1],"data_offsets":[0,4]})"), {"'w'", "no dtype"}},
      {"no shape", one(R"({"dtype":"F32","data_offsets":[0,4]})"), {"'w'", "no shape"}},
      {"no offsets", one(R"({"dtype":"F32","shape":[1]})"), {"'w'", "no data_offsets"}},
      {"dtype no string", one(R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})"), {"dtype is 1"}},
      {"shape no list", one(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})"), {"shape is 1"}},
      {"negative size",
       one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"),
       {"a size in shape is -1"}},
      {"fractional size",
       one(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})"),
       {"a size in shape is 1.0"}},
      {"size over int64",
       one(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]})"),
       {"9223372036854775808", "2^63-1"}},
      {"size over uint64",
       one(R"({"dtype":"F32","shape":[99999999999999999999999],"data_offsets":[0,4]})"),
       {"a size in shape"}},
      {"product overflows",
       one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})"),
       {"[4294967296, 4294967296]", "2^64 bits"}},
      {"bits overflow",
       one(R"({"dtype":"F32","shape":[576460752303423489],"data_offsets":[0,4]})"),
       {"2^64 bits"}},
      {"broken byte", one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,1]})"), {"whole number"}},
  };
}

std::vector<BadCase> bad_ranges() {
  return {
      {"offsets no list",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":4})"),
       {"data_offsets is 4"}},
      {"three offsets",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})"),
       {"[0,4,8]", "[begin, end]"}},
      {"negative offset",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})"),
       {"data_offsets[0] is -4"}},
      {"offset no integer",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4.5]})"),
       {"data_offsets[1] is 4.5"}},
      {"offset as text",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,"4"]})"),
       {"data_offsets[1] is \"4\""}},
      {"backwards",
       one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"),
       {"[4, 0] end before they begin"}},
      {"too few bytes",
       one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"),
       {"hold 4 bytes", "[2] of F32 needs 8"}},
      {"too many bytes",
       one(R"({"dtype":"F16","shape":[1],"data_offsets":[0,4]})"),
       {"hold 4 bytes", "needs 2"}},
      {"beyond the file",
       one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"),
       {"tensor 'w'", "beyond the data part of 4 bytes", "truncated"}},
      {"far beyond the file",
       one(R"({"dtype":"U8","shape":[4],"data_offsets":[18446744073709551611,18446744073709551615]})"),
       {"beyond the data part"}},
      {"overlap",
       safetensors_bytes("{\"w\":" + kGoodOne + "," + kSecond + "[3,5]}}", "xxxxx"),
       {"tensor 'v'", "[3, 5] overlap tensor 'w', which ends at 4"}},
      {"same range",
       safetensors_bytes(
           "{\"w\":" + kGoodOne + R"(,"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
           "xxxx"),
       {"tensor 'z'", "overlap tensor 'w'"}},
      {"hole",
       safetensors_bytes("{\"w\":" + kGoodOne + "," + kSecond + "[6,8]}}", "xxxxxxxx"),
       {"tensor 'v'", "begins at 6", "tensor 'w' ends at 4", "no hole"}},
      {"hole at the start",
       one(R"({"dtype":"U8","shape":[2],"data_offsets":[2,4]})"),
       {"begins at 2", "start of the data part"}},
      {"bytes after the last tensor", one(kGoodOne, 6), {"has 6 bytes", "end at 4"}},
      {"data without tensors", safetensors_bytes("{}", "x"), {"has 1 bytes", "end at 0"}},
  };
}

TEST(Safetensors, NamesEveryLie) {
  for (const auto& cases : {bad_files_and_headers(), bad_types_and_shapes(), bad_ranges()}) {
    for (const BadCase& bad : cases) {
      SCOPED_TRACE(bad.label);
      const std::string message = input_error_of([&] { parse(bad.file); });
      EXPECT_EQ(message.rfind("f.safetensors: ", 0), 0U) << message;
      for (const std::string& part : bad.expected) {
        EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
      }
    }
  }
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string good = safetensors_bytes(kGood, kGoodData);
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(parse(good.substr(0, size)), InputError) << size;
  }
  EXPECT_NO_THROW(parse(good));
}

TEST(Safetensors, DeepNestingAndLongTextNeitherCrashNorFloodTheMessage) {
  const std::string deep(100'000, '[');
  EXPECT_NE(input_error_of([&] {
              parse(safetensors_bytes("{\"a\":" + deep, ""));
            }).find("at most 3 arrays"),
            std::string::npos);
  const std::string long_name(100'000, 'n');
  const std::string message =
      input_error_of([&] { parse(safetensors_bytes("{\"" + long_name + "\":1}", "")); });
  EXPECT_NE(message, "");
  EXPECT_LT(message.size(), 1000U);
}

TEST(Safetensors, OnlyThreeTypesAreReadable) {
  StoredTensor tensor;
  tensor.dtype = "F32";
  EXPECT_EQ(readable_dtype(tensor, "w", "f"), DType::float32);
  tensor.dtype = "F16";
  EXPECT_EQ(readable_dtype(tensor, "w", "f"), DType::float16);
  tensor.dtype = "BF16";
  EXPECT_EQ(readable_dtype(tensor, "w", "f"), DType::bfloat16);
  tensor.dtype = "I64";
  const std::string message = input_error_of([&] { readable_dtype(tensor, "w", "f"); });
  EXPECT_EQ(message,
            "f: tensor 'w': dtype I64 cannot be read; types that can be read: F32, F16, BF16, "
            "and F8_E4M3 of matrices beside which lie their factors, '<name>_scale_inv'");
}

TEST(Safetensors, FileRoundTripsThroughTheWriter) {
  const ScratchFolder scratch;
  const std::vector<float> first = {1.5F, -2.0F, 3.25F};
  const std::string second = "abcde";
  const std::vector<TensorToWrite> tensors = {
      {"second", "U8", {5}, std::as_bytes(std::span(second))},
      {"first", "F32", {3, 1}, std::as_bytes(std::span(first))}};
  write_safetensors(scratch / "f.safetensors", tensors);
  SafetensorsFile opened(scratch / "f.safetensors");
  const SafetensorsFile file = std::move(opened);  // addresses survive a move
  const auto bytes = file.data(file.tensors().at("first"));
  ASSERT_EQ(bytes.size(), 12U);
  EXPECT_EQ(std::memcmp(bytes.data(), first.data(), bytes.size()), 0);
  const auto text = file.data(file.tensors().at("second"));
  file.mapping().release(text);  // given back pages can be read again
  EXPECT_EQ(std::memcmp(text.data(), second.data(), text.size()), 0);
  EXPECT_NE(input_error_of([&] {
              write_safetensors(scratch / "f.safetensors", tensors);
            }).find("never overwritten"),
            std::string::npos);
}

TEST(Safetensors, WhatNobodyReadsDoesNotMatter) {
  const SafetensorsHeader header = parse(safetensors_bytes(
      R"({"__metadata__":null,"w":{"dtype":"F2_E1M0","shape":[3],"data_offsets":[0,2]},)"
      R"("v":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
      "123456"));
  EXPECT_EQ(header.tensors.at("v").begin, 2U);
  const std::string message =
      testing::input_error_of([&] { readable_dtype(header.tensors.at("w"), "w", "f"); });
  EXPECT_EQ(message,
            "f: tensor 'w': dtype F2_E1M0 cannot be read; types that can be read: F32, F16, BF16, "
            "and F8_E4M3 of matrices beside which lie their factors, '<name>_scale_inv'");
}

TEST(Safetensors, FilesThatCannotBeMappedAreNamed) {
  const ScratchFolder scratch;
  const auto message = [](const std::string& path) {
    return input_error_of([&] { SafetensorsFile file(path); });
  };
  EXPECT_EQ(
      message(scratch / "none"),
      scratch / "none" +
          ": cannot be opened or read: No such file or directory; allowed: a safetensors file");
  EXPECT_EQ(message(scratch.path()),
            scratch.path() +
                ": cannot be opened or read: not a regular file; allowed: a safetensors file");
  const auto pipe = scratch / "pipe";
  ::dovetail::testing::expect_pipe_refused(pipe, [&] { SafetensorsFile file(pipe); });
  write_file(scratch / "empty", "");
  EXPECT_NE(message(scratch / "empty").find("has 0 bytes"), std::string::npos);
}

}  // namespace
}  // namespace dovetail
