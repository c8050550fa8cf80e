#include "framework/step/row_hash.hpp"

#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/ops/max.h>
#include <ATen/ops/min.h>

#include "framework/base/check.hpp"
#include "framework/base/word_hash.hpp"

#ifdef DOVETAIL_WITH_CUDA
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/step/cuda/row_hash_kernel.hpp"
#endif

namespace dovetail {
namespace {

/// Bytes of a thread's share, at least.
constexpr std::int64_t kGrainBytes = std::int64_t{1} << 16;

std::int64_t num_rows(const HashedRows& rows) {
  return rows.keys.numel();
}

std::int64_t row_bytes(const HashedRows& rows) {
  const auto& tensor = rows.tensor;
  return tensor.size(0) == 0 ? 0 : static_cast<std::int64_t>(tensor.nbytes()) / tensor.size(0);
}

void check_rows(const HashedRows& rows, int num_groups) {
  const auto& tensor = rows.tensor;
  DOVETAIL_CHECK(tensor.defined() && tensor.dim() >= 1 && tensor.is_contiguous(),
                 "rows to hash must be of a contiguous tensor");
  DOVETAIL_CHECK(rows.group >= 0 && rows.group < num_groups,
                 "group " + std::to_string(rows.group) + " of " + std::to_string(num_groups));
  for (const auto* numbers : {&rows.keys, &rows.places}) {
    DOVETAIL_CHECK(
        !numbers->defined() || (numbers->scalar_type() == at::kLong && numbers->is_contiguous() &&
                                numbers->device() == tensor.device()),
        "keys and places of rows must be int64 on the tensor's device");
  }
  DOVETAIL_CHECK_EQ(num_rows(rows), rows.places.defined() ? rows.places.numel() : tensor.size(0));
}

/// A kernel does not notice a row that is not there.
void check_places(const HashedRows& rows) {
  if (rows.places.defined() && rows.places.numel() > 0) {
    DOVETAIL_CHECK(rows.places.min().item<std::int64_t>() >= 0 &&
                       rows.places.max().item<std::int64_t>() < rows.tensor.size(0),
                   "rows to hash must be rows of the tensor");
  }
}

}  // namespace

std::uint64_t row_tag(std::string_view name) {
  return combine_hash_bytes(mix_bits(name.size()), name);
}

std::int64_t row_key(std::int64_t request, std::int64_t position) {
  return static_cast<std::int64_t>(
      hash_of({static_cast<std::uint64_t>(request), static_cast<std::uint64_t>(position)}));
}

RowHasher::RowHasher(std::vector<HashedRows> parts, int num_groups)
    : parts_(std::move(parts)), num_groups_(num_groups) {
  at::Tensor checked;  // most parts have the places of the one before
  for (const auto& rows : parts_) {
    check_rows(rows, num_groups);
    if (!rows.places.is_same(checked) || rows.tensor.size(0) != parts_.front().tensor.size(0)) {
      check_places(rows);
      checked = rows.places;
    }
    DOVETAIL_CHECK(rows.tensor.device() == parts_.front().tensor.device(),
                   "rows to hash must be on one device");
  }
  if (!parts_.empty() && parts_.front().tensor.is_cuda()) {
    put_on_gpu();
  }
}

std::vector<std::uint64_t> RowHasher::sums() const {
  if (table_.defined()) {
    return sums_on_gpu();
  }
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(num_groups_), 0);
  for (const auto& rows : parts_) {
    add_on_host(rows, sums[static_cast<std::size_t>(rows.group)]);
  }
  return sums;
}

void RowHasher::add_on_host(const HashedRows& rows, std::uint64_t& sum) const {
  const auto size = row_bytes(rows);
  if (size == 0) {
    return;
  }
  const auto* const bytes = static_cast<const unsigned char*>(rows.tensor.const_data_ptr());
  const auto* const keys = rows.keys.const_data_ptr<std::int64_t>();
  const auto* const places =
      rows.places.defined() ? rows.places.const_data_ptr<std::int64_t>() : nullptr;
  std::atomic<std::uint64_t> total{0};
  at::parallel_for(
      0, num_rows(rows), kGrainBytes / size + 1, [&](std::int64_t first, std::int64_t last) {
        std::uint64_t own = 0;
        for (auto i = first; i < last; ++i) {
          const auto place = places == nullptr ? i : places[i];
          own += sum_of_words(combine_hash(rows.tag, static_cast<std::uint64_t>(keys[i])),
                              bytes + place * size,
                              size);
        }
        total += own;
      });
  sum += total;
}

#ifdef DOVETAIL_WITH_CUDA

void RowHasher::put_on_gpu() {
  std::vector<DeviceRows> table;
  for (const auto& rows : parts_) {
    const auto size = row_bytes(rows);
    table.push_back(
        {.bytes = static_cast<const unsigned char*>(rows.tensor.const_data_ptr()),
         .places = rows.places.defined() ? rows.places.const_data_ptr<std::int64_t>() : nullptr,
         .keys = rows.keys.const_data_ptr<std::int64_t>(),
         .num_rows = size == 0 ? 0 : num_rows(rows),
         .row_bytes = size,
         .tag = rows.tag,
         .group = rows.group});
    most_pieces_ = std::max(most_pieces_, num_pieces(table.back()));
  }
  const auto num_bytes = static_cast<std::int64_t>(table.size() * sizeof(DeviceRows));
  const auto on_host = at::empty({num_bytes}, at::kByte);
  std::memcpy(on_host.mutable_data_ptr(), table.data(), static_cast<std::size_t>(num_bytes));
  table_ = on_host.to(parts_.front().tensor.device());
}

std::vector<std::uint64_t> RowHasher::sums_on_gpu() const {
  const auto device = table_.device();
  const c10::cuda::CUDAGuard guard(device);
  const auto stream = c10::cuda::getCurrentCUDAStream(device.index());
  const auto sums = at::zeros({num_groups_}, at::TensorOptions().dtype(at::kLong).device(device));
  launch_row_hash(static_cast<const DeviceRows*>(table_.const_data_ptr()),
                  static_cast<int>(parts_.size()),
                  most_pieces_,
                  reinterpret_cast<unsigned long long*>(sums.mutable_data_ptr<std::int64_t>()),
                  stream);
  const auto on_host = sums.cpu();
  const auto* const begin = on_host.const_data_ptr<std::int64_t>();
  return {begin, begin + on_host.numel()};
}

#else

void RowHasher::put_on_gpu() {
  throw ContractError("this build hashes no rows on a GPU");
}

std::vector<std::uint64_t> RowHasher::sums_on_gpu() const {
  throw ContractError("this build hashes no rows on a GPU");
}

#endif

}  // namespace dovetail
