#include "framework/plan/request_trace.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

constexpr const char* kAllowed =
    R"({"length": n} or {"input_ids": [...]}, and "context_length" or "context_ids", "rank")";

/// Whether the first line of a file is that of a well-known trace in another format: Mooncake's in
/// JSON, or a table with a column of tokens, as Azure's.
bool is_foreign(std::string_view line) {
  const auto has = [line](std::string_view word) {
    return line.find(word) != std::string_view::npos;
  };
  return has("\"input_length\"") || (!line.starts_with('{') && has(",") && has("okens"));
}

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
    if (line_ == 1 && text_.starts_with('[')) {
      fail("a JSON array", "one JSON object a line, " + std::string(kAllowed));
    }
    if (line_ == 1 && is_foreign(text_)) {
      fail("a trace in another format",
           "what launch/convert_trace.py makes of it, or lines " + std::string(kAllowed));
    }
    const json value = parse_strict_json(
        text_, {.file = file_, .line = line_, .max_depth = 2, .allowed = kAllowed});
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
        request.input_ids = read_ids(member, key);
      } else if (key == "context_ids") {
        request.context_ids = read_ids(member, key);
      } else {
        fail("unknown key '" + printable(key) + "'", kAllowed);
      }
    }
    if (value.contains("length") && value.contains("input_ids")) {
      fail("both length and input_ids", "one of them");
    }
    if (value.contains("context_length") && value.contains("context_ids")) {
      fail("both context_length and context_ids", "one of them");
    }
    if (value.contains("input_ids")) {
      request.length = std::ssize(request.input_ids);
    }
    if (value.contains("context_ids")) {
      request.context_length = std::ssize(request.context_ids);
    }
    return request;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& allowed) const {
    throw InputError(file_, line_, 0, problem + "; allowed: " + allowed);
  }

  static std::string describe(const json& value) {
    return std::string(value.type_name()) + " " + printable_json(value);
  }

  /// A whole number with a point or an exponent.
  static bool is_whole(const json& value) {
    if (!value.is_number_float()) {
      return false;
    }
    const auto number = value.get<double>();
    return std::abs(number) <= static_cast<double>(kMaxTraceNumber) && std::trunc(number) == number;
  }

  std::int64_t read_int(const json& value,
                        const std::string& name,
                        std::int64_t min,
                        std::int64_t max) const {
    // Other programs write whole numbers with a point, too.
    const json whole = is_whole(value) ? json(value.get<std::int64_t>()) : value;
    const auto number = find_json_int(whole, min, max);
    if (!number) {
      fail(name + " is " + describe(value),
           "a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    }
    return *number;
  }

  std::vector<std::int64_t> read_ids(const json& value, const std::string& name) const {
    if (!value.is_array() || value.empty()) {
      fail(name + " is " + describe(value), "a list of at least one whole number");
    }
    std::vector<std::int64_t> ids;
    ids.reserve(value.size());
    for (const json& item : value) {
      ids.push_back(
          read_int(item, name + "[" + std::to_string(ids.size()) + "]", 0, kMaxTraceNumber));
    }
    return ids;
  }

  std::string_view text_;
  const std::string& file_;
  int line_;
};

std::uint64_t combine_ids(std::uint64_t hash, const std::vector<std::int64_t>& ids) {
  hash = combine_hash(hash, ids.size());
  for (const std::int64_t id : ids) {
    hash = combine_hash(hash, static_cast<std::uint64_t>(id));
  }
  return hash;
}

std::uint64_t digest_of(const std::vector<TraceRequest>& requests) {
  std::uint64_t hash = mix_bits(requests.size());
  for (const TraceRequest& request : requests) {
    hash = combine_hash(hash, static_cast<std::uint64_t>(request.length));
    hash = combine_hash(hash, static_cast<std::uint64_t>(request.context_length));
    hash = combine_hash(hash, static_cast<std::uint64_t>(request.rank.value_or(-1)));
    hash = combine_ids(hash, request.input_ids);
    if (!request.context_ids.empty()) {
      hash = combine_ids(hash, request.context_ids);
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
  const auto is_at_end = [&] {  // of the file, or in front of blank lines only
    return text.empty() ||
           (!trace.requests.empty() && text.find_first_not_of(" \t\r\n") == text.npos);
  };
  for (int line = 1; !is_at_end(); ++line) {
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
  return parse_request_trace(read_text_file(path, kTraceText), path);
}

void check_token_ids(const RequestTrace& trace, std::int64_t vocabulary) {
  for (const TraceRequest& request : trace.requests) {
    for (const auto& [name, ids] :
         {std::pair("input_ids", &request.input_ids), {"context_ids", &request.context_ids}}) {
      for (std::size_t k = 0; k < ids->size(); ++k) {
        if (ids->at(k) < 0 || ids->at(k) >= vocabulary) {
          throw InputError(
              trace.file,
              request.line,
              0,
              std::string(name) + "[" + std::to_string(k) + "] is " + std::to_string(ids->at(k)) +
                  ", outside of the vocabulary; allowed: 0 to " + std::to_string(vocabulary - 1));
        }
      }
    }
  }
}

}  // namespace dovetail
