#include "models/weights/checkpoint.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/base/working_folder.hpp"
#include "models/weights/convert.hpp"
#include "models/weights/nearest_name.hpp"

#ifdef DOVETAIL_WITH_CUDA
#include "models/weights/cuda/staged_upload.hpp"
#endif

namespace dovetail {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

// Bytes converted between two releases of source pages: large enough to hide the system calls,
// small beside any model.
constexpr std::int64_t kPieceBytes = 4 << 20;

/// Names of the folder's files of that kind, in order.
std::vector<std::string> safetensors_files(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& path : list_folder(folder)) {
    if (path.extension() == ".safetensors") {
      names.push_back(printable(path.filename().string(), kMaxLongQuoteBytes));
    }
  }
  return names;
}

/// A shard's name in the index must be a plain file name: the format has no folders, and a path
/// could lead out of the checkpoint.
void check_shard_name(const std::string& name, const std::string& tensor, const std::string& path) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    throw InputError(path,
                     0,
                     0,
                     quoted_tensor(tensor) + ": file '" + printable(name, kMaxLongQuoteBytes) +
                         "'; allowed: the name of a file in the same folder");
  }
}

}  // namespace

CheckpointSource::CheckpointSource(std::string folder) : folder_(std::move(folder)) {
  if (!is_folder(folder_)) {
    throw InputError(folder_, 0, 0, "no such checkpoint folder" + working_folder_note(folder_));
  }
  const std::string single = folder_ + "/" + kSingleFile;
  const std::string index = folder_ + "/" + kIndexFile;
  if (is_plain_file(single)) {
    auto file = std::make_unique<SafetensorsFile>(single);
    for (const auto& item : file->tensors()) {
      file_names_.emplace(item.first, kSingleFile);
    }
    files_.emplace(kSingleFile, std::move(file));
  } else if (is_plain_file(index)) {
    read_index(index);
  } else {
    const auto found = safetensors_files(folder_);
    throw InputError(
        folder_,
        0,
        0,
        (found.empty() ? std::string("holds no weights")
                       : "holds '" + found.front() + "' and " + std::to_string(found.size() - 1) +
                             " more .safetensors files, and nothing says which tensors "
                             "they have") +
            "; needed: " + kSingleFile + ", or " + kIndexFile + " and its shards");
  }
}

CheckpointSource::~CheckpointSource() = default;

void CheckpointSource::read_index(const std::string& index_path) {
  const auto text = read_text_file(index_path, kWeightIndexText);
  const nlohmann::json index = parse_strict_json(text, {.file = index_path, .max_depth = 4});
  read_json_object(index, index_path);
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw InputError(index_path, 0, 0, "has no object 'weight_map' of tensor names to files");
  }
  std::set<std::string> shards;
  for (const auto& item : index["weight_map"].items()) {
    if (!item.value().is_string()) {
      throw InputError(index_path,
                       0,
                       0,
                       quoted_tensor(item.key()) + ": file is " + printable_json(item.value()) +
                           "; allowed: a string");
    }
    const auto shard = item.value().get<std::string>();
    check_shard_name(shard, item.key(), index_path);
    if (shards.insert(shard).second && !is_plain_file(folder_ + "/" + shard)) {
      throw InputError(index_path,
                       0,
                       0,
                       quoted_tensor(item.key()) + ": shard '" +
                           printable(shard, kMaxLongQuoteBytes) + "' is not in the folder");
    }
    file_names_.emplace(item.key(), shard);
  }
}

bool CheckpointSource::has(const std::string& name) const {
  return file_names_.contains(stored_name(name));
}

/// The name in the files, where there is such a tensor.
std::string CheckpointSource::stored_name(const std::string& name) const {
  constexpr std::string_view base = "model.";
  return !file_names_.contains(name) && name.starts_with(base) ? name.substr(base.size()) : name;
}

/// Says that a tensor has none of these names.
void CheckpointSource::fail_without(std::vector<std::string> names) const {
  const bool both =
      is_plain_file(folder_ + "/" + kSingleFile) && is_plain_file(folder_ + "/" + kIndexFile);
  std::string message = "no tensor '" + names.front() + "' in this checkpoint";
  for (std::size_t i = 1; i < names.size(); ++i) {
    message += (i == 1 ? ", nor '" : " or '") + names[i] + "'";
  }
  throw InputError(folder_,
                   0,
                   0,
                   message + "; the nearest name is " + nearest_name(file_names_, names) +
                       (both ? std::string(": ") + kSingleFile + " is read, and " + kIndexFile +
                                   " beside it is not"
                             : ""));
}

const SafetensorsFile& CheckpointSource::file_of(const std::string& tensor) {
  const auto name = file_names_.find(stored_name(tensor));
  if (name == file_names_.end()) {
    fail_without({tensor});
  }
  std::unique_ptr<SafetensorsFile>& file = files_[name->second];
  if (file == nullptr) {
    const std::string path = folder_ + "/" + name->second;
    try {
      file = std::make_unique<SafetensorsFile>(path);
    } catch (...) {
      files_.erase(name->second);
      throw;
    }
  }
  return *file;
}

/// Throws InputError unless it is there and has this shape.
const StoredTensor& CheckpointSource::stored_tensor(const std::string& name,
                                                    const std::vector<std::int64_t>& shape) {
  const SafetensorsFile& file = file_of(name);
  const auto found = file.tensors().find(stored_name(name));
  if (found == file.tensors().end()) {
    throw InputError(
        file.path(),
        0,
        0,
        "no tensor '" + name + "', although " + kIndexFile + " says that it is in this file");
  }
  if (found->second.shape != shape) {
    throw InputError(file.path(),
                     0,
                     0,
                     "tensor '" + name + "' has shape " + format_shape(found->second.shape) +
                         "; the model needs " + format_shape(shape));
  }
  return found->second;
}

/// Of the rows that the request asks for; on the meta device only checked.
BlockScales CheckpointSource::read_scales(const WeightRequest& request) {
  const bool is_stacked = request.shape.size() == 3;
  BlockScales scales = {.rows = request.shape.at(is_stacked ? 1 : 0),
                        .columns = request.shape.back()};
  const std::int64_t blocks = num_scale_blocks(scales.columns);
  std::vector<std::int64_t> shape = {num_scale_blocks(scales.rows), blocks};
  if (is_stacked) {
    shape.insert(shape.begin(), request.shape.front());
  }
  const std::string name = scales_name(request.name);
  const StoredTensor& tensor = stored_tensor(name, shape);
  const SafetensorsFile& file = file_of(name);
  const bool is_exponent = tensor.dtype == kExponent8;
  const DType from = is_exponent ? DType::float32 : readable_dtype(tensor, name, file.path());
  if (request.destination.is_meta() || request.destination.numel() == 0) {
    return scales;
  }
  const std::int64_t rows_of_one = is_stacked ? scales.rows : 1;
  scales.first_block_row = scales.block_row(request.first_row * rows_of_one);
  const std::int64_t end_row = (request.first_row + request.destination.size(0)) * rows_of_one;
  const std::int64_t first = scales.first_block_row * blocks;
  const std::int64_t count = (scales.block_row(end_row - 1) + 1) * blocks - first;
  scales.values.resize(static_cast<std::size_t>(count));
  const std::int64_t size = is_exponent ? 1 : static_cast<std::int64_t>(size_of(from));
  const std::byte* const stored = file.data(tensor).data() + first * size;
  if (is_exponent) {
    std::transform(stored, stored + count, scales.values.begin(), [](std::byte bits) {
      return exponent8_value(std::to_integer<std::uint8_t>(bits));
    });
  } else {
    convert_elements(
        stored, from, reinterpret_cast<std::byte*>(scales.values.data()), DType::float32, count);
  }
  bytes_read_ += count * size;
  return scales;
}

CheckpointSource::Stored CheckpointSource::find_stored(const WeightRequest& request,
                                                       const RequestedElements& wanted) {
  Stored stored;
  stored.tensor = &stored_tensor(request.name, request.shape);
  stored.file = &file_of(request.name);
  if (stored.tensor->dtype == kFloat8 && (request.shape.size() == 2 || request.shape.size() == 3) &&
      has(scales_name(request.name))) {
    stored.element_bytes = 1;
    stored.convert = [scales = read_scales(request), to = wanted.dtype](
                         std::span<const std::byte> piece, std::int64_t first, std::byte* target) {
      convert_block_scaled(piece, first, scales, target, to);
    };
    return stored;
  }
  const DType from = readable_dtype(*stored.tensor, request.name, stored.file->path());
  stored.element_bytes = static_cast<std::int64_t>(size_of(from));
  stored.convert = [from, to = wanted.dtype](std::span<const std::byte> piece,
                                             std::int64_t /*first*/,
                                             std::byte* target) {
    convert_elements(
        piece.data(), from, target, to, static_cast<std::int64_t>(piece.size() / size_of(from)));
  };
  return stored;
}

void CheckpointSource::read(const WeightRequest& request) {
  const RequestedElements wanted = check_request(request);
  if (!has(request.name)) {
    std::vector<std::string> names = {request.name};
    names.insert(names.end(), request.also_sought.begin(), request.also_sought.end());
    fail_without(names);
  }
  const Stored stored = find_stored(request, wanted);
  if (request.destination.is_meta()) {
    return;
  }
  const std::int64_t from_size = stored.element_bytes;
  const auto to_size = static_cast<std::int64_t>(size_of(wanted.dtype));
  const std::span<const std::byte> source =
      stored.file->data(*stored.tensor)
          .subspan(static_cast<std::size_t>(wanted.first * from_size),
                   static_cast<std::size_t>(wanted.count * from_size));
  stored.file->mapping().prefetch(source);
  const std::int64_t piece_elements = kPieceBytes / std::max(from_size, to_size);
  for (std::int64_t done = 0; done < wanted.count; done += piece_elements) {
    const std::int64_t count = std::min(piece_elements, wanted.count - done);
    const auto piece = source.subspan(static_cast<std::size_t>(done * from_size),
                                      static_cast<std::size_t>(count * from_size));
    write_piece(request.destination, wanted, done, count, [&](std::byte* to) {
      stored.convert(piece, wanted.first + done, to);
    });
    stored.file->mapping().release(piece);
    bytes_read_ += count * from_size;
  }
#ifdef DOVETAIL_WITH_CUDA
  if (upload_ != nullptr) {
    upload_->finish();
  }
#endif
}

void CheckpointSource::write_piece(const at::Tensor& destination,
                                   const RequestedElements& wanted,
                                   std::int64_t done,
                                   std::int64_t count,
                                   const std::function<void(std::byte*)>& convert) {
#ifdef DOVETAIL_WITH_CUDA
  if (destination.is_cuda()) {
    if (upload_ == nullptr) {
      upload_ = std::make_unique<StagedUpload>(kPieceBytes);
    }
    upload_->write(destination.view(-1).narrow(0, done, count), convert);
    return;
  }
#else
  static_cast<void>(destination);
  static_cast<void>(count);
#endif
  convert(wanted.data + done * static_cast<std::int64_t>(size_of(wanted.dtype)));
}

}  // namespace dovetail
