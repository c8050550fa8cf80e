// Whole text files, bounded in size.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace dovetail {

/// A kind of text file: how large one may be, and what messages call it.
struct TextFileKind {
  std::size_t max_bytes = 0;
  std::string_view name;
};

/// Every kind that Dovetail reads. Bounds are far above what is needed; they keep a wrong file from
/// filling the memory.
inline constexpr std::size_t kMebibyte = std::size_t{1} << 20U;
inline constexpr TextFileKind kExperimentText{1 * kMebibyte, "an experiment in YAML"};
inline constexpr TextFileKind kModelConfigText{16 * kMebibyte, "a Hugging Face config.json"};
inline constexpr TextFileKind kWeightIndexText{128 * kMebibyte, "an index of safetensors files"};
inline constexpr TextFileKind kScheduleText{64 * kMebibyte, "a schedule in JSON"};
inline constexpr TextFileKind kStepTimeText{64 * kMebibyte, "a table of step times in JSON"};
inline constexpr TextFileKind kExchangeTimesText{16 * kMebibyte, "a table of exchanges in JSON"};
inline constexpr TextFileKind kTraceText{1024 * kMebibyte, "a file of requests, one a line"};
inline constexpr TextFileKind kSummaryText{64 * kMebibyte, "a summary in JSON"};
inline constexpr TextFileKind kSweepText{256 * kMebibyte, "the results of a sweep in JSON"};
inline constexpr TextFileKind kRecordedExperimentText{64 * kMebibyte, "an experiment"};

/// The bytes of a regular file. Never waits. Throws InputError "<path>: cannot be opened or read:
/// <reason>; allowed: <name>", or "<path>: larger than ... MiB; allowed: <name>".
std::string read_text_file(const std::string& path, const TextFileKind& kind);

}  // namespace dovetail
