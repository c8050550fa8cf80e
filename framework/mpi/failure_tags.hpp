// The messages of the failure channel.
#pragma once

namespace dovetail {

inline constexpr int kFailureTag = 1;      ///< int: the exit code
inline constexpr int kInterruptTag = 2;    ///< likewise, of a signal
inline constexpr int kAcknowledgeTag = 3;  ///< int without a meaning: the sender has flushed
inline constexpr int kStateTag = 4;        ///< RankState
inline constexpr int kReportedTag = 5;     ///< int without a meaning: the report is printed
inline constexpr int kGoneTag = 6;         ///< int: a rank whose process has ended without a word
inline constexpr int kHereTag = 7;         ///< int without a meaning: answers kInterruptTag

}  // namespace dovetail
