// A Hugging Face folder of safetensors: one file, or an index and its shards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/step/weight_source.hpp"
#include "models/weights/block_scaled.hpp"
#include "models/weights/safetensors.hpp"

namespace dovetail {

class StagedUpload;

/// Reads model.safetensors, or else the shards that model.safetensors.index.json names. A shard is
/// mapped when a tensor of it is first read, so a rank maps only what it owns; values are converted
/// from the mapping straight into the destination, in pieces whose pages are given back at once: no
/// memory is needed beside the destinations (for those on a GPU: two pinned pieces). Names are as
/// in the files, or have "model." before these, which checkpoints of a base model leave out. For
/// one thread.
class CheckpointSource final : public WeightSource {
 public:
  /// Reads the index, or maps the single file. Throws InputError naming file and place: no such
  /// folder or files, a broken index, a shard that is missing or outside of the folder.
  explicit CheckpointSource(std::string folder);
  ~CheckpointSource() override;
  CheckpointSource(const CheckpointSource&) = delete;
  CheckpointSource& operator=(const CheckpointSource&) = delete;
  CheckpointSource(CheckpointSource&&) = delete;
  CheckpointSource& operator=(CheckpointSource&&) = delete;

  bool has(const std::string& name) const override;

  bool is_stored(const std::string& name) const override { return has(name); }

  /// Source types F32, F16, BF16, and F8_E4M3 of matrices with scales (block_scaled.hpp), also of
  /// those that are stacked;
  /// destination types float32, float16, bfloat16. The destination is complete when this returns,
  /// on a GPU, too.
  void read(const WeightRequest& request) override;

  /// Bytes of tensor data read from files so far.
  std::int64_t bytes_read() const { return bytes_read_; }

  /// Files mapped so far.
  int num_mapped_files() const { return static_cast<int>(files_.size()); }

 private:
  /// Elements of a tensor as they are stored, and what makes them values.
  struct Stored {
    const SafetensorsFile* file = nullptr;
    const StoredTensor* tensor = nullptr;
    std::int64_t element_bytes = 0;
    std::function<void(std::span<const std::byte> piece, std::int64_t first, std::byte* to)>
        convert;  ///< elements from `first` of the whole tensor on
  };

  void read_index(const std::string& index_path);
  std::string stored_name(const std::string& name) const;
  [[noreturn]] void fail_without(std::vector<std::string> names) const;
  const StoredTensor& stored_tensor(const std::string& name,
                                    const std::vector<std::int64_t>& shape);
  Stored find_stored(const WeightRequest& request, const RequestedElements& wanted);
  BlockScales read_scales(const WeightRequest& request);
  const SafetensorsFile& file_of(const std::string& tensor);
  void write_piece(const at::Tensor& destination,
                   const RequestedElements& wanted,
                   std::int64_t done,
                   std::int64_t count,
                   const std::function<void(std::byte*)>& convert);

  std::string folder_;
  std::map<std::string, std::string> file_names_;                  // of each tensor
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;  // by file name
  std::int64_t bytes_read_ = 0;
#ifdef DOVETAIL_WITH_CUDA
  std::unique_ptr<StagedUpload> upload_;  // made for the first destination on a GPU
#endif
};

}  // namespace dovetail
