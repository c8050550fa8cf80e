#include "framework/exec/op_failure.hpp"

#include <exception>
#include <string>

#include "framework/base/error.hpp"
#include "framework/base/failure_text.hpp"

namespace dovetail {

void rethrow_from_op(const Op& op) {
  const FailurePlace place{-1, op.ubatch, op.layer, std::string(to_string(op.phase)), op.group};
  try {
    throw;
  } catch (const OpError&) {
    throw;
  } catch (const InputError& error) {
    std::throw_with_nested(InputError(place.describe() + ": " + error.what()));
  } catch (const Error& error) {
    if (error.exit_code() != kExitRunFailure) {
      std::throw_with_nested(
          Error(error.exit_code(), place.describe() + ": " + std::string(error.what())));
    }
    std::throw_with_nested(OpError(place, error.what()));
  } catch (const std::exception& error) {
    std::throw_with_nested(OpError(place, failure_text(error)));
  } catch (...) {
    std::throw_with_nested(OpError(place, "an exception that is no std::exception"));
  }
}

}  // namespace dovetail
