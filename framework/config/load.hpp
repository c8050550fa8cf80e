// From an experiment file to an Experiment: strict, with the place of every value kept for later
// checks. Next stage: validate.hpp.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/config/yaml_tree.hpp"

namespace dovetail {

/// An experiment and the places of its values.
struct LoadedExperiment {
  Experiment experiment;
  /// Key path ("policies[1].split", "" = the whole) to the place of each value that was stated,
  /// in the file or by --set.
  std::map<std::string, SourceMark> marks;
};

/// The text of an experiment file. Rank 0 calls this and broadcasts the text. Throws InputError
/// where the file cannot be read, is no regular file or is larger than 1 MiB.
std::string read_experiment_file(const std::string& path);

/// Pure: equal on all ranks for equal arguments. `file` names the text in messages; `overrides` are
/// the arguments of --set, "key.path=value" (override.hpp), in order. Throws InputError with file,
/// line and column, or beginning with "--set ...", at the first value that is unknown, missing,
/// duplicate, of a wrong type or out of range.
LoadedExperiment parse_experiment(const std::string& text,
                                  const std::string& file,
                                  const std::vector<std::string>& overrides = {});

/// What parse_experiment does after the overrides.
LoadedExperiment read_tree(const YamlNode& root);

/// read_experiment_file and parse_experiment.
LoadedExperiment load_experiment(const std::string& path,
                                 const std::vector<std::string>& overrides = {});

/// The place of the value at `path`, or of the nearest value around it that was stated.
const SourceMark& find_mark(const LoadedExperiment& loaded, std::string path);

}  // namespace dovetail
