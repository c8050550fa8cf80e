#include "tests/fuzz/inputs.hpp"

#include <algorithm>
#include <fstream>

#include "framework/base/text_file.hpp"
#include "tests/fuzz/target.hpp"

namespace dovetail::fuzz {
namespace {

const std::filesystem::path kRoot = DOVETAIL_SOURCE_DIR;

/// "\x7b\x00", as a dictionary of libFuzzer spells bytes.
std::string spelled(const std::string& token) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const char c : token) {
    const auto byte = static_cast<unsigned char>(c);
    text += {'\\', 'x', digits[byte / 16], digits[byte % 16]};
  }
  return text;
}

}  // namespace

std::vector<std::string> files(const std::vector<std::string>& paths) {
  std::vector<std::string> found;
  found.reserve(paths.size());
  for (const auto& path : paths) {
    found.push_back(read_text_file(kRoot / path, {64 * kMebibyte, "a seed"}));
  }
  return found;
}

std::vector<std::string> files_below(const std::filesystem::path& folder, const std::string& name) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot / folder)) {
    if (std::filesystem::exists(entry.path() / name)) {
      paths.push_back(folder / entry.path().filename() / name);
    }
  }
  std::sort(paths.begin(), paths.end());
  return files(paths);
}

std::vector<std::string> json_tokens_and(std::vector<std::string> own) {
  for (const char* token : {"{",
                            "}",
                            "[",
                            "]",
                            ",",
                            ":",
                            " ",
                            "\"",
                            "\\",
                            "null",
                            "true",
                            "false",
                            "\xff",
                            "\\ud800",
                            "\\u0000"}) {
    own.emplace_back(token);
  }
  return own;
}

void write_seeds(const std::filesystem::path& folder, const std::filesystem::path& dictionary) {
  int count = 0;
  for (const auto& seed : target().seeds()) {
    write_input(folder / std::to_string(count++), seed);
  }
  std::ofstream to(dictionary);
  for (const auto& token : target().tokens()) {
    to << '"' << spelled(token) << "\"\n";
  }
  require(to.good(), dictionary.string() + ": cannot be written");
}

void write_input(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream to(file, std::ios::binary);
  to << bytes;
  to.close();
  require(to.good(), file.string() + ": cannot be written");
}

}  // namespace dovetail::fuzz
