// Infinity and NaN in JSON. Python writes them, the format does not have them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dovetail {

struct QuotedNumbers {
  std::string text;
  std::vector<std::size_t> quotes;  ///< bytes of `text` that were put in, ascending

  /// Where a byte of `text` is in the text that it was made from.
  std::size_t original(std::size_t byte) const;
};

/// A JSON text in which each NaN, Infinity and -Infinity outside of strings is a string.
QuotedNumbers quote_non_finite(std::string_view text);

}  // namespace dovetail
