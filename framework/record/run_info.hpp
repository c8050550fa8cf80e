// What a result must say of where it comes from: versions, revision, host, command line,
// environment.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dovetail {

/// Revision of the sources at build time, "-dirty" when they were changed.
const char* git_revision();

/// Name and value of each fact that needs neither MPI nor torch: compiler, build type, HDF5
/// compiled and loaded, yaml-cpp, git revision, CPU.
std::vector<std::pair<std::string, std::string>> build_facts();

/// The model of this machine's CPU, or "unknown".
std::string cpu_name();

/// Whether a variable goes into result files: it can change a result, and cannot be a secret. Pure.
bool is_recorded_variable(std::string_view name);

/// The variables of this process's environment that are recorded, as "NAME=value" lines, sorted.
std::string relevant_environment();

/// The words joined by blanks, quoted where a shell needs it.
std::string quoted_command(const std::vector<std::string>& words);

/// The arguments as quoted_command, so that the line can be run again.
std::string command_line(int argc, const char* const* argv);

}  // namespace dovetail
