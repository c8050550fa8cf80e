// Keeps LibTorch from saying on every rank what we know: that a setting is experimental.
#pragma once

#include <c10/util/Exception.h>

namespace dovetail {

/// Scope in which warnings of LibTorch on this thread are dropped. Immovable.
class QuietTorch {
 public:
  QuietTorch() : guard_(&handler_) {}

 private:
  class Handler final : public c10::WarningHandler {
   public:
    void process(const c10::Warning& /*warning*/) override {}
  };

  Handler handler_;
  c10::WarningUtils::WarningHandlerGuard guard_;
};

}  // namespace dovetail
