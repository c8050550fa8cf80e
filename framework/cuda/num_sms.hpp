// The number of streaming multiprocessors of the current device.
#pragma once

namespace dovetail {

/// Asks the runtime, which keeps it: no synchronisation, legal while a stream is captured.
int num_sms();

}  // namespace dovetail
