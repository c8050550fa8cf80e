// Progress of a run for a person at a terminal: one line that is written over, on rank 0 only, and
// removed at the end. Silent where stderr is no terminal and DOVETAIL_PROGRESS is not set.
#pragma once

#include <string>

namespace dovetail {

class Progress {
 public:
  explicit Progress(bool is_first_rank);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  Progress(Progress&&) = delete;
  Progress& operator=(Progress&&) = delete;

  void show(const std::string& policy, int finished, int all);

 private:
  bool is_shown_ = false;
};

}  // namespace dovetail
