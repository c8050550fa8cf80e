#include "framework/cuda/event.hpp"

#include "framework/cuda/check.hpp"

namespace dovetail {

Event::Event(Kind kind) {
  const unsigned flags = kind == Kind::timing ? cudaEventDefault : cudaEventDisableTiming;
  check_cuda(cudaEventCreateWithFlags(&event_, flags), "create an event");
}

Event::~Event() {
  if (event_ != nullptr) {
    static_cast<void>(cudaEventDestroy(event_));
  }
}

void Event::record(cudaStream_t stream) const {
  check_cuda(cudaEventRecord(event_, stream), "record an event");
}

void Event::record_external(cudaStream_t stream) const {
  check_cuda(cudaEventRecordWithFlags(event_, stream, cudaEventRecordExternal),
             "record an event from inside a graph");
}

void Event::hold(cudaStream_t stream) const {
  check_cuda(cudaStreamWaitEvent(stream, event_, 0), "wait for an event");
}

bool Event::is_done() const {
  const cudaError_t status = cudaEventQuery(event_);
  if (status == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // CUDA remembers it for whoever looks next
    return false;
  }
  check_cuda(status, "query an event");
  return true;
}

double Event::elapsed_ns(const Event& start, const Event& end) {
  float ms = 0;
  check_cuda(cudaEventElapsedTime(&ms, start.event_, end.event_), "time between two events");
  return static_cast<double>(ms) * 1e6;
}

}  // namespace dovetail
