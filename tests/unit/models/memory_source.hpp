// Weights for tests: random values per name, kept so that an oracle can read them, and changed on
// purpose by negative twins.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/step/weight_source.hpp"

namespace dovetail {

/// Names of transformers 4. A tensor is made at its first use, with values that depend on seed and
/// name: norms around 1, others of standard deviation 1/sqrt(last size).
class MemorySource final : public WeightSource {
 public:
  explicit MemorySource(std::uint64_t seed) : seed_(seed) {}

  bool has(const std::string& name) const override;
  void read(const WeightRequest& request) override;

  /// float32, contiguous. The shape counts at the first use.
  at::Tensor& tensor(const std::string& name, const std::vector<std::int64_t>& shape);

  /// Of a tensor that was used before.
  const at::Tensor& at(const std::string& name) const { return tensors_.at(name); }

  at::Tensor& at(const std::string& name) { return tensors_.at(name); }

  const std::vector<std::string>& names_read() const { return names_read_; }

  std::int64_t bytes_written() const { return bytes_written_; }

  /// Bytes of the distinct storages that were written to.
  std::int64_t storage_bytes() const;

 private:
  std::uint64_t seed_;
  std::map<std::string, at::Tensor> tensors_;
  std::vector<std::string> names_read_;
  std::int64_t bytes_written_ = 0;
  std::map<const void*, std::int64_t> storages_;
};

}  // namespace dovetail
