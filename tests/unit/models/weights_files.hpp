// Helpers of the weights tests: scratch folders, raw files, files with any header.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "framework/base/scratch_folder.hpp"

namespace dovetail::testing {

/// A temporary folder whose files are named by text, as the weights' interfaces take it.
class ScratchFolder {
 public:
  std::string operator/(const std::string& name) const { return (folder_.path() / name).string(); }

  std::string path() const { return folder_.path().string(); }

 private:
  dovetail::ScratchFolder folder_;
};

inline void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

/// Eight little-endian bytes.
inline std::string length_bytes(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes += static_cast<char>((length >> (8 * i)) & 0xFF);
  }
  return bytes;
}

/// A safetensors file of this header and data, the length as it should be.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return length_bytes(header.size()) + header + data;
}

}  // namespace dovetail::testing
