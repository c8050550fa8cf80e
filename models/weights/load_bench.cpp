#include "models/weights/load_bench.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <malloc.h>
#include <span>
#include <unistd.h>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <nlohmann/json.hpp>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "models/weights/block_scaled.hpp"
#include "models/weights/checkpoint.hpp"
#include "models/weights/expert_weights.hpp"
#include "models/weights/safetensors_writer.hpp"
#include "models/weights/seeded.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kHidden = 1024;
constexpr std::int64_t kIntermediate = 512;
constexpr int kNumExperts = 16;
constexpr int kLayersPerShard = 2;

struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;

  std::int64_t elements() const { return shape[0] * shape[1]; }

  std::int64_t num_scales() const {
    return num_scale_blocks(shape[0]) * num_scale_blocks(shape[1]);
  }

  /// Routers are published in bfloat16 beside matrices of 8 bits.
  bool is_scaled(bool block_scaled) const { return block_scaled && !name.ends_with("gate.weight"); }

  std::int64_t file_bytes(bool block_scaled) const {
    return is_scaled(block_scaled) ? elements() + num_scales() * std::int64_t{sizeof(float)}
                                   : elements() * 2;
  }
};

std::string layer_prefix(int layer) {
  return "model.layers." + std::to_string(layer);
}

std::string shard_name(int shard) {
  return "model-" + std::to_string(shard) + ".safetensors";
}

std::vector<NamedShape> replicated_of_layer(int layer) {
  const std::string prefix = layer_prefix(layer);
  return {{prefix + ".self_attn.q_proj.weight", {kHidden, kHidden}},
          {prefix + ".self_attn.k_proj.weight", {kHidden / 4, kHidden}},
          {prefix + ".self_attn.v_proj.weight", {kHidden / 4, kHidden}},
          {prefix + ".self_attn.o_proj.weight", {kHidden, kHidden}},
          {prefix + ".mlp.gate.weight", {kNumExperts, kHidden}}};
}

std::vector<NamedShape> tensors_of_layer(int layer) {
  std::vector<NamedShape> all = replicated_of_layer(layer);
  const std::string prefix = layer_prefix(layer) + ".mlp";
  for (int expert = 0; expert < kNumExperts; ++expert) {
    for (const char* projection : {"gate_proj", "up_proj"}) {
      all.push_back({expert_weight_name(prefix, expert, projection), {kIntermediate, kHidden}});
    }
    all.push_back({expert_weight_name(prefix, expert, "down_proj"), {kHidden, kIntermediate}});
  }
  return all;
}

/// The values that all tensors of a checkpoint share: a load does not look at them.
struct SharedValues {
  explicit SharedValues(bool block_scaled) : is_scaled(block_scaled) {
    SeededSource(1).read({"values.weight", {kHidden, kHidden}, 0, values});
    if (is_scaled) {  // any bits but those of NaN
      auto* const bytes = static_cast<unsigned char*>(values.mutable_data_ptr());
      std::for_each(bytes, bytes + values.nbytes(), [](unsigned char& byte) { byte &= 0xBFU; });
    }
  }

  void add(const NamedShape& tensor, std::vector<TensorToWrite>& tensors) const {
    const auto* const bytes = static_cast<const std::byte*>(values.const_data_ptr());
    const bool is_small = tensor.is_scaled(is_scaled);
    tensors.push_back({tensor.name,
                       is_small ? std::string(kFloat8) : "BF16",
                       tensor.shape,
                       {bytes, static_cast<std::size_t>(tensor.elements() * (is_small ? 1 : 2))}});
    if (is_small) {
      tensors.push_back(
          {scales_name(tensor.name),
           "F32",
           {num_scale_blocks(tensor.shape[0]), num_scale_blocks(tensor.shape[1])},
           std::as_bytes(std::span(scales).first(static_cast<std::size_t>(tensor.num_scales())))});
    }
  }

  bool is_scaled;
  at::Tensor values = at::empty({kHidden, kHidden}, at::kBFloat16);
  std::vector<float> scales = std::vector<float>(
      static_cast<std::size_t>(num_scale_blocks(kHidden) * num_scale_blocks(kHidden)), 0.5F);
};

/// Writes the shards and their index; returns the number of shards.
int write_checkpoint(const std::string& folder, int num_layers, bool block_scaled) {
  const SharedValues values(block_scaled);
  nlohmann::json weight_map;
  int num_shards = 0;
  for (int first = 0; first < num_layers; first += kLayersPerShard, ++num_shards) {
    const std::string shard = shard_name(num_shards);
    std::vector<TensorToWrite> tensors;
    for (int layer = first; layer < std::min(first + kLayersPerShard, num_layers); ++layer) {
      for (const NamedShape& tensor : tensors_of_layer(layer)) {
        values.add(tensor, tensors);
      }
    }
    for (const TensorToWrite& tensor : tensors) {
      weight_map[tensor.name] = shard;
    }
    write_safetensors((fs::path(folder) / shard).string(), tensors);
  }
  std::ofstream(folder + "/model.safetensors.index.json")
      << nlohmann::json{{"weight_map", weight_map}}.dump();
  return num_shards;
}

/// A line "<key>: <n> kB" of /proc/self/status, in bytes.
std::int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) {
      return std::stoll(line.substr(key.size() + 1)) * 1024;
    }
  }
  throw RunError("/proc/self/status has no " + key);
}

/// Sets the peak of resident memory back to what is resident now.
void reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  if (!file) {
    throw RunError("/proc/self/clear_refs cannot be written: no peak memory can be measured");
  }
}

/// Reads what the rank owns as a model does: new tensors, kept.
std::vector<at::Tensor> load(CheckpointSource& source, int num_layers, int ep_size, int ep_rank) {
  const int num_local = kNumExperts / ep_size;
  std::vector<at::Tensor> owned;
  for (int layer = 0; layer < num_layers; ++layer) {
    for (const NamedShape& tensor : replicated_of_layer(layer)) {
      owned.push_back(at::empty(tensor.shape, at::kBFloat16));
      source.read({tensor.name, tensor.shape, 0, owned.back()});
    }
    const at::Tensor gate_up = at::empty({num_local, 2 * kIntermediate, kHidden}, at::kBFloat16);
    const at::Tensor down = at::empty({num_local, kHidden, kIntermediate}, at::kBFloat16);
    read_experts(
        source, layer_prefix(layer) + ".mlp", ep_rank * num_local, kNumExperts, gate_up, down);
    owned.push_back(gate_up);
    owned.push_back(down);
  }
  return owned;
}

std::int64_t owned_file_bytes_of_layer(const LoadBenchOptions& options) {
  std::int64_t replicated = 0;
  for (const NamedShape& tensor : replicated_of_layer(0)) {
    replicated += tensor.file_bytes(options.block_scaled);
  }
  std::int64_t all = 0;
  for (const NamedShape& tensor : tensors_of_layer(0)) {
    all += tensor.file_bytes(options.block_scaled);
  }
  return replicated + (all - replicated) / options.ep_size;
}

}  // namespace

LoadBench bench_load(const LoadBenchOptions& options) {
  std::int64_t layer_bytes = 0;
  for (const NamedShape& tensor : tensors_of_layer(0)) {
    layer_bytes += tensor.file_bytes(options.block_scaled);
  }
  if (options.checkpoint_bytes < layer_bytes) {
    throw InputError("bench load: size of " + std::to_string(options.checkpoint_bytes) +
                     " bytes; allowed: at least one layer, " + std::to_string(layer_bytes));
  }
  if (options.ep_size < 1 || kNumExperts % options.ep_size != 0 || options.ep_rank < 0 ||
      options.ep_rank >= options.ep_size) {
    throw InputError("bench load: rank " + std::to_string(options.ep_rank) + " of " +
                     std::to_string(options.ep_size) + "; allowed: a divisor of " +
                     std::to_string(kNumExperts) + " and a rank below it");
  }
  const auto num_layers = static_cast<int>(options.checkpoint_bytes / layer_bytes);
  const ScratchFolder folder(options.scratch);
  LoadBench result;
  result.stored = options.block_scaled ? kFloat8 : "BF16";
  result.num_files = write_checkpoint(folder.path(), num_layers, options.block_scaled);
  result.checkpoint_bytes = num_layers * layer_bytes;

  ::malloc_trim(0);  // memory that the allocator kept from earlier would hide some of the growth
  reset_peak_memory();
  const std::int64_t resident_before = status_bytes("VmRSS");
  const std::int64_t start = now_ns();
  CheckpointSource source(folder.path());
  const std::vector<at::Tensor> owned = load(source, num_layers, options.ep_size, options.ep_rank);
  result.seconds = static_cast<double>(now_ns() - start) / 1e9;
  result.peak_bytes = status_bytes("VmHWM") - resident_before;

  for (const at::Tensor& tensor : owned) {
    result.owned_bytes += static_cast<std::int64_t>(tensor.nbytes());
  }
  result.owned_file_bytes = num_layers * owned_file_bytes_of_layer(options);
  result.num_mapped_files = source.num_mapped_files();
  result.gigabytes_per_second = static_cast<double>(result.owned_bytes) / result.seconds / 1e9;
  result.bytes_read = source.bytes_read();
  result.read_ratio =
      static_cast<double>(result.bytes_read) / static_cast<double>(result.owned_file_bytes);
  result.peak_ratio =
      static_cast<double>(result.peak_bytes) / static_cast<double>(result.owned_bytes);
  return result;
}

std::string LoadBench::to_json() const {
  return nlohmann::json{{"stored", stored},
                        {"checkpoint_bytes", checkpoint_bytes},
                        {"num_files", num_files},
                        {"num_mapped_files", num_mapped_files},
                        {"seconds", seconds},
                        {"gigabytes_per_second", gigabytes_per_second},
                        {"owned_bytes", owned_bytes},
                        {"owned_file_bytes", owned_file_bytes},
                        {"bytes_read", bytes_read},
                        {"read_ratio", read_ratio},
                        {"peak_bytes", peak_bytes},
                        {"peak_ratio", peak_ratio}}
      .dump();
}

}  // namespace dovetail
