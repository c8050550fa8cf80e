// Damages inputs, the same way on every machine for one seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dovetail::fuzz {

class Mutator {
 public:
  /// `seeds` and `tokens` of a target; there is at least one of each.
  Mutator(std::vector<std::string> seeds, std::vector<std::string> tokens, std::uint64_t seed);

  /// One of the seeds with one to four changes.
  std::string next();

 private:
  std::size_t below(std::size_t end);
  const std::string& any(const std::vector<std::string>& of);
  void change(std::string& bytes);

  std::vector<std::string> seeds_;
  std::vector<std::string> tokens_;
  std::uint64_t state_;
};

}  // namespace dovetail::fuzz
