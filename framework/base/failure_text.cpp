#include "framework/base/failure_text.hpp"

#include <atomic>
#include <new>
#include <string_view>
#include <system_error>

namespace dovetail {
namespace {

std::atomic<const char*> current_stage{""};

/// LibTorch's exceptions go on with the place in its source and a stack.
constexpr std::string_view kStackBegins = "\nException raised from ";

std::string out_of_memory(std::string_view details) {
  const std::string stage = current_stage.load();
  return "out of memory" + (stage.empty() ? "" : " while " + stage) +
         (details.empty() ? "" : ": " + std::string(details));
}

/// What the system says where std::thread fails names neither the thread nor what is used up.
std::string no_thread(const std::string& reason) {
  const std::string stage = current_stage.load();
  return "a thread cannot be made" + (stage.empty() ? "" : " while " + stage) + ": " + reason +
         "; what may be used up: processes (ulimit -u, a container's pids.max), memory (ulimit -v)";
}

}  // namespace

void set_stage(const char* stage) {
  current_stage = stage;
}

std::string failure_text(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return out_of_memory("");
  }
  const auto* refusal = dynamic_cast<const std::system_error*>(&error);
  if (refusal != nullptr && refusal->code() == std::errc::resource_unavailable_try_again) {
    return no_thread(refusal->code().message());
  }
  std::string_view text = error.what();
  text = text.substr(0, text.find(kStackBegins));
  constexpr std::string_view of_host = "DefaultCPUAllocator: can't allocate memory: ";
  if (const auto at = text.find(of_host); at != std::string_view::npos) {
    const auto details = text.substr(at + of_host.size());
    return out_of_memory(details.substr(0, details.find(". ")));
  }
  constexpr std::string_view of_gpu = "CUDA out of memory. ";
  if (text.starts_with(of_gpu)) {
    return out_of_memory(text.substr(of_gpu.size()));
  }
  return std::string(text);
}

}  // namespace dovetail
