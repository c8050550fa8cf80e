#include "framework/base/non_finite_json.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace dovetail {
namespace {

bool is_of_a_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '+' ||
         c == '.';
}

/// Bytes of the number at the start of `text`, 0 where it is none.
std::size_t length_of_non_finite(std::string_view text) {
  for (const std::string_view word :
       std::array<std::string_view, 3>{"NaN", "Infinity", "-Infinity"}) {
    if (text.starts_with(word) &&
        (text.size() == word.size() || !is_of_a_word(text[word.size()]))) {
      return word.size();
    }
  }
  return 0;
}

}  // namespace

std::size_t QuotedNumbers::original(std::size_t byte) const {
  return byte - static_cast<std::size_t>(std::lower_bound(quotes.begin(), quotes.end(), byte) -
                                         quotes.begin());
}

QuotedNumbers quote_non_finite(std::string_view text) {
  QuotedNumbers result;
  result.text.reserve(text.size());
  const auto quote = [&] {
    result.quotes.push_back(result.text.size());
    result.text += '"';
  };
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool starts_a_word = !in_string && (i == 0 || !is_of_a_word(text[i - 1]));
    if (const auto length = starts_a_word ? length_of_non_finite(text.substr(i)) : 0; length > 0) {
      quote();
      result.text += text.substr(i, length);
      quote();
      i += length - 1;
      continue;
    }
    result.text += text[i];
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      result.text += text[++i];
    } else if (text[i] == '"') {
      in_string = !in_string;
    }
  }
  return result;
}

}  // namespace dovetail
