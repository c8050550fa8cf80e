#include "framework/plan/request_trace.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/text_file.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

constexpr const char* kAllowed =
    R"({"length": n} or {"input_ids": [...]}, and "context_length", "rank")";

/// One line of a trace.
class LineReader {
 public:
  LineReader(std::string_view text, const std::string& file, int line)
      : text_(text), file_(file), line_(line) {}

  TraceRequest read() const {
    if (text_.empty()) {
      fail("an empty line", kAllowed);
    }
    if (text_.size() > kMaxTraceLineBytes) {
      fail("a line of " + std::to_string(text_.size()) + " bytes",
           "at most " + std::to_string(kMaxTraceLineBytes));
    }
    const json value = parse_line();
    if (!value.is_object()) {
      fail(describe(value), kAllowed);
    }
    TraceRequest request;
    request.line = line_;
    for (const auto& [key, member] : value.items()) {
      if (key == "length") {
        request.length = read_int(member, key, 1, kMaxTraceNumber);
      } else if (key == "context_length") {
        request.context_length = read_int(member, key, 0, kMaxTraceNumber);
      } else if (key == "rank") {
        request.rank = static_cast<int>(read_int(member, key, 0, kMaxTraceRank));
      } else if (key == "input_ids") {
        request.input_ids = read_ids(member);
      } else {
        fail("unknown key '" + printable(key) + "'", kAllowed);
      }
    }
    if (value.contains("length") && value.contains("input_ids")) {
      fail("both length and input_ids", "one of them");
    }
    if (value.contains("input_ids")) {
      request.length = std::ssize(request.input_ids);
    }
    return request;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& allowed) const {
    throw InputError(file_, line_, 0, problem + "; allowed: " + allowed);
  }

  /// Refuses keys that are there twice, of which the JSON library would keep one, and values in
  /// values, however deep.
  json parse_line() const {
    constexpr int max_depth = 2;
    if (find_too_deep_json(text_, max_depth) != std::string_view::npos) {
      fail("values too deep within each other", kAllowed);
    }
    std::set<std::string> keys;
    const auto watch = [&](int /*depth*/, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::key && !keys.insert(parsed.get<std::string>()).second) {
        fail("the key '" + printable(parsed.get<std::string>()) + "' is there twice",
             "each key once");
      }
      return true;
    };
    try {
      return json::parse(text_, watch);
    } catch (const json::exception& error) {
      fail("not JSON: " + one_line(error.what()), kAllowed);
    }
  }

  /// What the JSON library says quotes the text.
  static std::string one_line(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c >= 0 && c < ' '; }, '?');
    constexpr std::size_t longest = 200;
    return text.size() > longest ? text.substr(0, longest) + "..." : text;
  }

  static std::string describe(const json& value) {
    return std::string(value.type_name()) + " " +
           printable(value.dump(-1, ' ', true, json::error_handler_t::replace));
  }

  std::int64_t read_int(const json& value,
                        const std::string& name,
                        std::int64_t min,
                        std::int64_t max) const {
    const bool fits = value.is_number_unsigned()
                          ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(max)
                          : value.is_number_integer() && value.get<std::int64_t>() >= min;
    if (!fits || value.get<std::int64_t>() < min) {
      fail(name + " is " + describe(value),
           "a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    }
    return value.get<std::int64_t>();
  }

  std::vector<std::int64_t> read_ids(const json& value) const {
    if (!value.is_array() || value.empty()) {
      fail("input_ids is " + describe(value), "a list of at least one whole number");
    }
    std::vector<std::int64_t> ids;
    ids.reserve(value.size());
    for (const json& item : value) {
      ids.push_back(
          read_int(item, "input_ids[" + std::to_string(ids.size()) + "]", 0, kMaxTraceNumber));
    }
    return ids;
  }

  std::string_view text_;
  const std::string& file_;
  int line_;
};

std::uint64_t digest_of(const std::vector<TraceRequest>& requests) {
  std::uint64_t hash = mix_bits(requests.size());
  for (const TraceRequest& request : requests) {
    hash = combine_hash(hash, static_cast<std::uint64_t>(request.length));
    hash = combine_hash(hash, static_cast<std::uint64_t>(request.context_length));
    hash = combine_hash(hash, static_cast<std::uint64_t>(request.rank.value_or(-1)));
    hash = combine_hash(hash, request.input_ids.size());
    for (const std::int64_t id : request.input_ids) {
      hash = combine_hash(hash, static_cast<std::uint64_t>(id));
    }
  }
  return hash;
}

}  // namespace

RequestTrace parse_request_trace(std::string_view text, const std::string& file) {
  RequestTrace trace;
  trace.file = file;
  if (text.empty()) {
    throw InputError(file, 1, 0, std::string("an empty file; allowed: lines ") + kAllowed);
  }
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view content = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (content.ends_with('\r')) {
      content.remove_suffix(1);
    }
    trace.requests.push_back(LineReader(content, file, line).read());
  }
  trace.digest = digest_of(trace.requests);
  return trace;
}

RequestTrace read_request_trace(const std::string& path) {
  return parse_request_trace(read_text_file(path, kMaxTraceBytes, "a file of requests, one a line"),
                             path);
}

}  // namespace dovetail
