// JSON from files that may lie: duplicate keys and deep nesting are errors, too.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace dovetail {

/// Parses an object. `max_depth` counts nested objects and lists, 1 = a flat object. Throws
/// InputError "<where>: ..." for text that is not JSON or not an object, a key twice in one object,
/// or deeper nesting.
nlohmann::json parse_strict_json(std::string_view text, const std::string& where, int max_depth);

/// The text as it suits an error message: cut to a short length, control characters replaced.
std::string abbreviate(std::string text);

}  // namespace dovetail
