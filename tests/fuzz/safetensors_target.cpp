// Files of weights: their headers.
#include <algorithm>
#include <span>

#include "models/weights/safetensors.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail::fuzz {
namespace {

std::vector<std::string> seeds() {
  using testing::safetensors_bytes;
  return {safetensors_bytes(R"({"__metadata__":{"format":"pt"},)"
                            R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                            R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},)"
                            R"("c":{"dtype":"F16","shape":[0,5],"data_offsets":[14,14]},)"
                            R"("d":{"dtype":"F8_E4M3","shape":[],"data_offsets":[14,15]}})",
                            "0123456789abcde"),
          safetensors_bytes(R"({"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", "y")};
}

std::vector<std::string> tokens() {
  return json_tokens_and({"\"dtype\":\"BOOL\"",
                          "\"shape\":[4]",
                          "\"data_offsets\":[0,8]",
                          "\"__metadata__\":null,",
                          testing::length_bytes(64),
                          testing::length_bytes(0)});
}

/// What a reader relies on, checked in the slow way: each data byte belongs to one tensor.
void check_owners(const SafetensorsHeader& header, std::size_t file_bytes) {
  require(header.data_start <= file_bytes, "a header that is longer than the file");
  std::vector<int> owners(file_bytes - header.data_start);
  for (const auto& [name, tensor] : header.tensors) {
    require(tensor.begin <= tensor.end && tensor.end <= owners.size(),
            quoted_tensor(name) + " lies outside of the file");
    for (auto i = tensor.begin; i < tensor.end; ++i) {
      ++owners[i];
    }
  }
  require(std::all_of(owners.begin(), owners.end(), [](int count) { return count == 1; }),
          "a byte belongs to no tensor, or to two");
}

bool accepts(const std::string& bytes) {
  return is_read("fuzz", [&] {
    const auto header = parse_safetensors(std::as_bytes(std::span(bytes)), "fuzz");
    check_owners(header, bytes.size());
    for (const auto& item : header.tensors) {
      is_read("fuzz", [&] { readable_dtype(item.second, item.first, "fuzz"); });
    }
  });
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz
