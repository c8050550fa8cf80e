// Functions of the driver's interface. The program does not link the driver, so that it starts
// where there is none.
#pragma once

#include <cuda_runtime_api.h>

namespace dovetail {

/// The driver's `symbol` as it was in `version` of CUDA (12040 = 12.4), of the type that
/// cudaTypedefs.h names (PFN_<symbol>_v12040); null where the driver does not have it.
template <class Function>
Function driver_function(const char* symbol, unsigned int version) {
  void* address = nullptr;
  auto found = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion(symbol, &address, version, cudaEnableDefault, &found) !=
          cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  return reinterpret_cast<Function>(address);
}

}  // namespace dovetail
