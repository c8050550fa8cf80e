// What the command line asks of a run.
#pragma once

#include <string>
#include <vector>

namespace dovetail {

struct RunOptions {
  std::string file;                    ///< the experiment file
  std::vector<std::string> overrides;  ///< "key.path=value"
  std::vector<std::string> policies;   ///< run only these and the baseline; empty = all
  std::string out;                     ///< result folder; empty = results/<experiment>-<UTC time>
  std::string command_line;            ///< of the process, for the record
};

}  // namespace dovetail
