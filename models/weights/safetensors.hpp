// One file in the safetensors format, read strictly: every statement of the header is checked
// against the file before a byte of data is used. Format:
// https://github.com/huggingface/safetensors (8 bytes little-endian header length, JSON header,
// data without holes). Knows no torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/types.hpp"
#include "models/weights/mapped_file.hpp"

namespace dovetail {

/// The format's own bound on the header's length.
inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// One tensor as the header describes it.
struct StoredTensor {
  std::string dtype;                ///< as in the file: "F32", "BF16", "I64", ...
  std::vector<std::int64_t> shape;  ///< row-major, each >= 0; empty = a scalar
  std::uint64_t begin = 0;          ///< bytes from the start of the data part
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::uint64_t data_start = 0;  ///< of the data part, in bytes from the start of the file
  std::map<std::string, StoredTensor> tensors;
};

/// Parses and checks the header of a whole file's bytes. Throws InputError naming `path`, the
/// tensor or offset, and what is allowed. Tensor data need not be aligned.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& path);

/// The element type of a safetensors dtype name. Throws InputError naming path, tensor and the
/// types that can be read (F32, F16, BF16) for all others.
DType readable_dtype(const StoredTensor& tensor, const std::string& name, const std::string& path);

/// Move-only: the mapping of one file and its checked header.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::string path);

  const std::string& path() const { return file_.path(); }

  const std::map<std::string, StoredTensor>& tensors() const { return header_.tensors; }

  /// The mapped bytes of a tensor of this file.
  std::span<const std::byte> data(const StoredTensor& tensor) const;

  const MappedFile& mapping() const { return file_; }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
};

/// "tensor 'x'", for messages; the name may be anything.
std::string quoted_tensor(const std::string& name);

/// "[2, 3]".
std::string format_shape(std::span<const std::int64_t> shape);

}  // namespace dovetail
