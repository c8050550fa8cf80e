// A trace of requests from a file: one JSON object a line, of all ranks together. Feeds
// plan/workload.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dovetail {

/// Upper bound of a request's length, of its context and of its token ids in a trace.
inline constexpr std::int64_t kMaxTraceNumber = 1'000'000'000;
/// Upper bound of the rank that a line of a trace may name.
inline constexpr int kMaxTraceRank = 1'000'000;
/// Upper bound of a line, in bytes.
inline constexpr std::size_t kMaxTraceLineBytes = std::size_t{64} << 20U;

/// One line of a trace.
struct TraceRequest {
  std::int64_t length = 0;              ///< tokens computed in a step; 0 = not stated (decode only)
  std::int64_t context_length = 0;      ///< tokens in the KV cache before the first step
  std::optional<int> rank;              ///< the rank that holds it; otherwise the least loaded one
  std::vector<std::int64_t> input_ids;  ///< tokens of the first step, in the phase decode of the
                                        ///< first steps; those after them are seeded
  std::vector<std::int64_t> context_ids;  ///< tokens of the context; empty = seeded
  int line = 0;                           ///< in the file, from 1
};

/// The requests of a file in order; a request's id is its index.
struct RequestTrace {
  std::string file;
  std::vector<TraceRequest> requests;  ///< at least one
  std::uint64_t digest = 0;            ///< of all requests and their order
};

/// A line is `{"length": n}` or `{"input_ids": [...]}`, both with `"context_length": n` or
/// `"context_ids": [...]` and `"rank": n` where wanted; in the phase decode a line may have neither
/// length nor ids. A number may be written with a point, as 512.0. Lines end with LF or CRLF; the
/// last one need not, and blank lines may follow it. `file` names the text in messages. Pure.
/// Throws InputError "file:line: ...; allowed: ..." at the first line that is empty, too long, no
/// JSON object, or has a key that is unknown or there twice, or a value of a wrong type or out of
/// range.
RequestTrace parse_request_trace(std::string_view text, const std::string& file);

/// parse_request_trace of a file, which is refused, too, where it cannot be read or is larger than
/// 1 GiB.
RequestTrace read_request_trace(const std::string& path);

/// Throws InputError "file:line: ..." at the first token of a step or a context that is not in
/// [0, vocabulary). Pure.
void check_token_ids(const RequestTrace& trace, std::int64_t vocabulary);

}  // namespace dovetail
