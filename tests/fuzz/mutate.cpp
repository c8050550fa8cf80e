#include "tests/fuzz/mutate.hpp"

#include <algorithm>
#include <utility>

#include "framework/base/hash.hpp"

namespace dovetail::fuzz {
namespace {

/// A piece of at most `max_bytes` bytes.
std::string piece(const std::string& bytes, std::size_t at, std::size_t max_bytes) {
  return at < bytes.size() ? bytes.substr(at, max_bytes) : "";
}

}  // namespace

Mutator::Mutator(std::vector<std::string> seeds,
                 std::vector<std::string> tokens,
                 std::uint64_t seed)
    : seeds_(std::move(seeds)), tokens_(std::move(tokens)), state_(seed) {
  // Numbers at the bounds of what programs count with, as text and as bytes.
  for (const char* number :
       {"0", "-1", "1e999", "0.5", "2147483648", "9223372036854775807", "18446744073709551616"}) {
    tokens_.emplace_back(number);
  }
  tokens_.emplace_back(1, '\0');
  tokens_.emplace_back(8, '\xff');
  tokens_.emplace_back("\xff\xff\xff\xff\xff\xff\xff\x7f");
  tokens_.emplace_back("\xef\xbb\xbf");
}

std::size_t Mutator::below(std::size_t end) {
  return mix_bits(++state_) % end;
}

const std::string& Mutator::any(const std::vector<std::string>& of) {
  return of[below(of.size())];
}

void Mutator::change(std::string& bytes) {
  const std::size_t at = below(bytes.size() + 1);
  const auto overwrite = [&](const std::string& with) {
    bytes.replace(at, std::min(with.size(), bytes.size() - at), with);
  };
  switch (below(8)) {
    case 0:
      bytes.insert(at, any(tokens_));
      break;
    case 1:
      overwrite(any(tokens_));
      break;
    case 2:
      bytes.erase(at, 1 + below(20));
      break;
    case 3:
      bytes.insert(at, piece(bytes, below(bytes.size() + 1), below(40)));
      break;
    case 4: {
      const std::string& other = any(seeds_);
      overwrite(piece(other, below(other.size() + 1), below(80)));
      break;
    }
    case 5:
      if (below(4) == 0) {
        bytes.resize(at);
      }
      break;
    case 6:
      overwrite(std::string(1, static_cast<char>(below(256))));
      break;
    default:
      if (at < bytes.size()) {
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      }
  }
}

std::string Mutator::next() {
  std::string bytes = any(seeds_);
  for (std::size_t left = 1 + below(4); left > 0; --left) {
    change(bytes);
  }
  return bytes;
}

}  // namespace dovetail::fuzz
