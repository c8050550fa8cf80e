// The larger parts of an experiment file, read by read_experiment.cpp: limits, workload, execution,
// policies.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/config/map_reader.hpp"

namespace dovetail {

inline constexpr std::int64_t kMaxCount = 1'000'000;  // of iterations, requests, ranks, layers, ...
inline constexpr std::int64_t kMaxTokens = 1'000'000'000;

/// A list of whole numbers from `min` to kMaxTokens, not empty.
std::vector<std::int64_t> read_counts(const Located& value, std::int64_t min);

void read_workload(const Located& value, WorkloadConfig& workload);

const std::vector<std::string_view>& execution_keys();

/// The keys of `map` that are execution_keys().
void read_execution(const MapReader& map, ExecutionConfig& execution);

/// A policy; what it does not state of its execution is `execution`.
PolicyConfig read_policy(const Located& value, const ExecutionConfig& execution);

}  // namespace dovetail
