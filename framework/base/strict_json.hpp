// The one parser of JSON that others wrote. The JSON library alone takes more than it should: of a
// key that is there twice it keeps one, a NUL byte ends its input, and depth has no bound.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace dovetail {

/// Where a JSON text comes from, for messages, and what it may be.
struct JsonSource {
  std::string file;    ///< in front of every message; may name a part: "x.safetensors: header"
  int line = 0;        ///< of the file, where the text is that one line; 0 = it is all of it
  int max_depth = 16;  ///< arrays and objects within each other; 1 = a flat one
  bool takes_non_finite = false;  ///< NaN, Infinity and -Infinity are the strings of these names
  std::string_view allowed;  ///< what a right text is, at the end of every message; may be empty
};

/// Parses one JSON value. Throws InputError "<file>: ..." or "<file>:<line>: ...", with the place
/// in the text, for what is no JSON or does not fit in the library's numbers, NUL bytes, keys that
/// are twice in one object, and values deeper within each other than `max_depth` (the library
/// prints and copies values by recursion). Time and memory grow with the text only.
nlohmann::json parse_strict_json(std::string_view text, const JsonSource& source);

/// A JSON value on one line, as a message may quote it: at most kMaxLongQuoteBytes, then "...".
std::string printable_json(const nlohmann::json& value);

}  // namespace dovetail
