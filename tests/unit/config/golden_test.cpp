// The dump is recorded in result files and compared when a sweep goes on, so the text of today's
// keys stays as it is, to the byte.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "framework/base/hash.hpp"
#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"

namespace dovetail {
namespace {

const std::string kRoot = DOVETAIL_SOURCE_DIR "/";
const std::string kGolden = kRoot + "tests/unit/config/golden/";

std::string text_of(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The experiments of a folder, relative to kRoot, sorted.
std::vector<std::string> experiments_in(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot + folder)) {
    if (entry.path().extension() == ".yaml") {
      files.push_back(folder + "/" + entry.path().filename().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Calls `call(key, line)` for each line of a dump; the key is "execution.graph", empty in a
/// comment, and "sweep" for all axes, which have names of their own.
template <class Call>
void for_each_line(const std::string& dumped, const Call& call) {
  std::istringstream lines(dumped);
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t begin = line.find_first_not_of(" -");
    const std::size_t end = line.find(':');
    if (line.starts_with('#') || begin == std::string::npos || end == std::string::npos) {
      call(std::string(), line);
      continue;
    }
    const std::string key = line.substr(begin, end - begin);
    section = begin == 0 ? key : section;
    std::string name = section;
    if (begin != 0 && section != "sweep") {
      name += "." + key;
    }
    call(name, line);
  }
}

std::set<std::string> keys_in(const std::string& dumps) {
  std::set<std::string> keys;
  for_each_line(dumps, [&](const std::string& key, const std::string&) { keys.insert(key); });
  return keys;
}

std::string dump_of(const std::string& file) {
  return dump(load_experiment(kRoot + file).experiment);
}

/// A dump without the lines of keys that are not in `keys`.
std::string restricted(const std::string& dumped, const std::set<std::string>& keys) {
  std::string text;
  for_each_line(dumped, [&](const std::string& key, const std::string& line) {
    text += keys.count(key) > 0 ? line + "\n" : "";
  });
  return text;
}

/// Of today's dumps.
std::set<std::string> all_keys() {
  std::string text;
  for (const char* folder : {"tests/unit/config/golden", "experiments"}) {
    for (const std::string& file : experiments_in(folder)) {
      text += dump_of(file);
    }
  }
  return keys_in(text);
}

std::string hash_of(const std::string& text) {
  std::uint64_t hash = 0;
  for (const char c : text) {
    hash = combine_hash(hash, static_cast<unsigned char>(c));
  }
  return std::to_string(hash);
}

/// What dumps.txt holds: the dumps of the golden folder's own experiments, which state every key
/// and every kind of value, and hashes of the dumps of the repository's experiments.
std::string make_golden(const std::vector<std::string>& hashed, const std::set<std::string>& keys) {
  std::string text;
  for (const std::string& file : experiments_in("tests/unit/config/golden")) {
    text += "# file " + file + "\n" + restricted(dump_of(file), keys);
  }
  for (const std::string& file : hashed) {
    text += "# hash of " + file + ": " + hash_of(restricted(dump_of(file), keys)) + "\n";
  }
  return text;
}

/// The experiments whose hashes dumps.txt has.
std::vector<std::string> hashed_in(const std::string& golden) {
  const std::string start = "# hash of ";
  std::vector<std::string> files;
  for_each_line(golden, [&](const std::string&, const std::string& line) {
    if (line.starts_with(start)) {
      files.push_back(line.substr(start.size(), line.rfind(':') - start.size()));
    }
  });
  return files;
}

/// A key or an experiment that dumps.txt does not know may come: it is left out of the comparison.
/// Any other difference is a change of what result files say, or of an experiment; where that is
/// meant, DOVETAIL_UPDATE_GOLDEN=1 writes the file anew.
TEST(Golden, DumpsOfExperiments) {
  const std::string golden = text_of(kGolden + "dumps.txt");
  EXPECT_GE(hashed_in(golden).size(), 16U);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread
  if (std::getenv("DOVETAIL_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(kGolden + "dumps.txt") << make_golden(experiments_in("experiments"), all_keys());
    return;
  }
  EXPECT_EQ(make_golden(hashed_in(golden), keys_in(golden)), golden)
      << "if the change is meant: DOVETAIL_UPDATE_GOLDEN=1 and this test";
}

}  // namespace
}  // namespace dovetail
