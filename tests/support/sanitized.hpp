// Whether this build looks for errors at run time, at a multiple of the time.
#pragma once

namespace dovetail::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace dovetail::testing
