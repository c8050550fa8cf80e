#include "models/weights/safetensors_writer.hpp"

#include <array>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"

namespace dovetail {

void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors) {
  if (path_exists(path)) {
    throw InputError(path, 0, 0, "exists; a checkpoint is never overwritten");
  }
  nlohmann::json header = nlohmann::json::object();
  std::uint64_t position = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::uint64_t end = position + tensor.bytes.size();
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data part is aligned to 8 bytes
  std::array<char, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xFF);
  }
  std::ofstream file(path, std::ios::binary);
  file.write(length.data(), length.size());
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  for (const TensorToWrite& tensor : tensors) {
    file.write(reinterpret_cast<const char*>(tensor.bytes.data()),
               static_cast<std::streamsize>(tensor.bytes.size()));
  }
  file.close();
  if (!file) {
    throw RunError(path + ": cannot be written");
  }
}

}  // namespace dovetail
