// Many files to read from, few of them open: a run of 1000 ranks has more than a process may open.
#pragma once

#include <filesystem>
#include <memory>

#include "framework/record/hdf5.hpp"

namespace dovetail {

/// So many files are open through handles of the process at the same time.
inline constexpr int kMaxOpenForReading = 64;

/// Files that handles have open now, in the whole process.
int num_open_for_reading();

/// A file that is open for reading when it is used. Move-only; one thread of the process at a time
/// uses handles, as HDF5 asks for anyway.
class ReadHandle {
 public:
  /// Opens the file. Throws InputError that tells a missing, a cut and a foreign file apart.
  explicit ReadHandle(const std::filesystem::path& path);
  ~ReadHandle();
  ReadHandle(ReadHandle&& other) noexcept;
  ReadHandle& operator=(ReadHandle&& other) noexcept;
  ReadHandle(const ReadHandle&) = delete;
  ReadHandle& operator=(const ReadHandle&) = delete;

  /// Opens the file again where it was closed for others, and closes the one that was used longest
  /// ago where too many are open. Valid until another handle's file() is called. Throws as the
  /// constructor.
  const hdf5::File& file() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace dovetail
