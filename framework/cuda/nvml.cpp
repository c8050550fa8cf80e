#include "framework/cuda/nvml.hpp"

#include <array>
#include <dlfcn.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

// What is used of nvml.h, which need not be installed. NVML keeps its functions and numbers from
// version to version.
struct NvmlDevice;
constexpr int kSuccess = 0;          // NVML_SUCCESS
constexpr int kIsThere = 0;          // NVML_P2P_STATUS_OK
constexpr int kMayLoad = 0;          // NVML_P2P_CAPS_INDEX_READ
constexpr int kMayStore = 1;         // NVML_P2P_CAPS_INDEX_WRITE
constexpr unsigned kUuidBytes = 96;  // NVML_DEVICE_UUID_V2_BUFFER_SIZE

class Nvml {
 public:
  /// Throws RunError.
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) {
      const char* why = dlerror();  // NOLINT(concurrency-mt-unsafe)
      throw RunError(std::string("NVML is not there: ") + (why == nullptr ? "no reason" : why));
    }
    try {
      check(find<int()>("nvmlInit_v2")(), "nvmlInit_v2");
    } catch (...) {
      static_cast<void>(dlclose(library_));
      throw;
    }
  }

  ~Nvml() {
    if (auto* shut_down = dlsym(library_, "nvmlShutdown")) {
      reinterpret_cast<int (*)()>(shut_down)();
    }
    static_cast<void>(dlclose(library_));
  }

  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  Nvml(Nvml&&) = delete;
  Nvml& operator=(Nvml&&) = delete;

  /// By uuid. Those that this process may not look at are left out.
  std::map<std::string, NvmlDevice*> devices() const {
    auto* const at = find<int(unsigned, NvmlDevice**)>("nvmlDeviceGetHandleByIndex_v2");
    auto* const uuid_of = find<int(NvmlDevice*, char*, unsigned)>("nvmlDeviceGetUUID");
    unsigned count = 0;
    check(find<int(unsigned*)>("nvmlDeviceGetCount_v2")(&count), "nvmlDeviceGetCount_v2");
    std::map<std::string, NvmlDevice*> found;
    for (unsigned index = 0; index < count; ++index) {
      NvmlDevice* device = nullptr;
      std::array<char, kUuidBytes> uuid{};
      if (at(index, &device) == kSuccess && uuid_of(device, uuid.data(), kUuidBytes) == kSuccess) {
        found[bare_uuid(uuid.data())] = device;
      }
    }
    return found;
  }

  /// Throws RunError where it does not say.
  bool reaches(NvmlDevice* from, NvmlDevice* to) const {
    auto* const ask = find<int(NvmlDevice*, NvmlDevice*, int, int*)>("nvmlDeviceGetP2PStatus");
    for (const int what : {kMayLoad, kMayStore}) {
      int status = kIsThere;
      check(ask(from, to, what, &status), "nvmlDeviceGetP2PStatus");
      if (status != kIsThere) {
        return false;
      }
    }
    return true;
  }

 private:
  template <class Function>
  Function* find(const char* name) const {
    auto* const address = dlsym(library_, name);
    if (address == nullptr) {
      throw RunError(std::string("NVML has no ") + name);
    }
    return reinterpret_cast<Function*>(address);
  }

  void check(int result, const char* call) const {
    if (result != kSuccess) {
      throw RunError(std::string("NVML: ") + call + ": " +
                     find<const char*(int)>("nvmlErrorString")(result));
    }
  }

  void* library_;
};

}  // namespace

GpuWays ways_by_nvml(const std::string& uuid) {
  GpuWays ways;
  try {
    const Nvml nvml;
    const auto devices = nvml.devices();
    const auto own = devices.find(uuid);
    if (own == devices.end()) {
      throw RunError("NVML lists " + std::to_string(devices.size()) + " GPUs, without its own");
    }
    for (const auto& [other, device] : devices) {
      if (device != own->second) {
        ways.reaches[other] = nvml.reaches(own->second, device);
      }
    }
  } catch (const RunError& error) {
    ways.problem = error.what();
  }
  return ways;
}

}  // namespace dovetail
