// Tables of a README that follow from rows in the code: a test compares them, or writes them where
// DOVETAIL_UPDATE_README=1 is set.
#pragma once

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

namespace dovetail::testing {

/// Expects that the file at `path` has exactly `table` between its lines
/// `<!-- NAME: written by a test -->` and `<!-- end of NAME -->`; with DOVETAIL_UPDATE_README=1 it
/// puts it there. Ends of lines count.
inline void expect_readme_table(const std::string& path,
                                const std::string& name,
                                const std::string& table) {
  std::stringstream file;
  file << std::ifstream(path).rdbuf();
  const std::string found = file.str();
  const std::string begin = "<!-- " + name + ": written by a test -->\n";
  const std::string end = "<!-- end of " + name + " -->\n";
  const std::size_t first = found.find(begin);
  const std::size_t last = found.find(end);
  ASSERT_TRUE(first != std::string::npos && last != std::string::npos)
      << path << " has no line " << begin << " or " << end;
  const std::string expected =
      found.substr(0, first) + begin + "\n" + table + "\n" + found.substr(last);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread
  if (std::getenv("DOVETAIL_UPDATE_README") != nullptr) {
    std::ofstream(path) << expected;
    return;
  }
  EXPECT_EQ(found, expected) << "the table of " << name << " in " << path
                             << " is not what the rows say; to write it: DOVETAIL_UPDATE_README=1 "
                                "and this test";
}

}  // namespace dovetail::testing
