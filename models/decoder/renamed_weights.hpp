// Checkpoints whose parameters have other names than the code asks for.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "framework/step/weight_source.hpp"

namespace dovetail {

/// Asks another source for each parameter under an older name, or under its own where that source
/// does not know the older one.
class RenamedWeights final : public WeightSource {
 public:
  /// Keeps a reference to `source`.
  RenamedWeights(WeightSource& source, std::function<std::string(std::string name)> older_name)
      : source_(source), older_name_(std::move(older_name)) {}

  bool has(const std::string& name) const override {
    return source_.has(older_name_(name)) || source_.has(name);
  }

  bool is_stored(const std::string& name) const override {
    return source_.is_stored(older_name_(name)) || source_.is_stored(name);
  }

  void read(const WeightRequest& request) override {
    WeightRequest sought = request;
    const std::string older = older_name_(request.name);
    if (older != request.name && source_.has(older)) {
      sought.name = older;
    } else if (older != request.name) {
      sought.also_sought.push_back(older);
    }
    source_.read(sought);
  }

 private:
  WeightSource& source_;
  std::function<std::string(std::string name)> older_name_;
};

}  // namespace dovetail
