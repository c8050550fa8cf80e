#include "tests/unit/models/memory_source.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include <ATen/ops/empty.h>

#include "framework/base/check.hpp"

namespace dovetail {

bool MemorySource::has(const std::string& name) const {
  return name.ends_with(".weight") || name.ends_with(".bias");
}

at::Tensor& MemorySource::tensor(const std::string& name, const std::vector<std::int64_t>& shape) {
  const auto [entry, is_new] = tensors_.try_emplace(name);
  if (is_new) {
    entry->second = at::empty(shape, at::kFloat);
    std::mt19937_64 random(seed_ ^ std::hash<std::string>{}(name));
    const bool is_norm = name.find("norm") != std::string::npos;
    const bool is_embedding = name.find("embed_tokens") != std::string::npos;
    const double scale = is_norm        ? 0.1
                         : is_embedding ? 1.0
                                        : 1 / std::sqrt(static_cast<double>(shape.back()));
    std::normal_distribution<double> noise(is_norm ? 1.0 : 0.0, scale);
    std::generate_n(entry->second.mutable_data_ptr<float>(), entry->second.numel(), [&] {
      return static_cast<float>(noise(random));
    });
  }
  return entry->second;
}

void MemorySource::read(const WeightRequest& request) {
  const at::Tensor& whole = tensor(request.name, request.shape);
  DOVETAIL_CHECK(whole.sizes() == at::IntArrayRef(request.shape), "shape of " + request.name);
  DOVETAIL_CHECK(request.destination.is_contiguous(), "destination of " + request.name);
  request.destination.copy_(whole.narrow(0, request.first_row, request.destination.size(0)));
  names_read_.push_back(request.name);
  bytes_written_ += static_cast<std::int64_t>(request.destination.nbytes());
  const auto& storage = request.destination.storage();
  storages_[storage.data()] = static_cast<std::int64_t>(storage.nbytes());
}

std::int64_t MemorySource::storage_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [address, size] : storages_) {
    bytes += size;
  }
  return bytes;
}

}  // namespace dovetail
