// Hashes of the bits of rows, on the device that holds them: what all iterations of a policy are
// compared by.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// Rows of one tensor. A row lies along all dimensions but the first.
struct HashedRows {
  at::Tensor tensor;  ///< [n, ...] contiguous, any type, CPU or GPU
  at::Tensor places;  ///< [rows] int64: which rows of the tensor; undefined = row i is the i-th
  at::Tensor keys;    ///< [rows] int64: what each row is the row of; rows that change places change
                      ///< the hash
  std::uint64_t tag = 0;  ///< what the tensor is: row_tag
  int group = 0;          ///< the sum that the rows add to
};

/// The tag of a tensor of that name.
std::uint64_t row_tag(std::string_view name);

/// The key of a token's row: any two tokens have different ones for all that matters.
std::int64_t row_key(std::int64_t request, std::int64_t position);

/// Hashes the same rows again and again. Refers to the tensors, which live and stay where they are
/// as long as it does. Rows and words add up (mod 2^64), so a hash does not depend on threads, and
/// the hashes of several ranks add up to that of all their rows, whichever rank holds which. Not
/// cryptographic. Main thread only.
class RowHasher {
 public:
  /// All tensors on one device. ContractError for rows that do not fit their tensor: fewer places
  /// or rows than keys, a tensor that is not contiguous, a group outside of [0, num_groups).
  RowHasher(std::vector<HashedRows> parts, int num_groups);

  /// The hash of each group, 0 for one without rows. On a GPU: one kernel on the current stream,
  /// and waits for it.
  std::vector<std::uint64_t> sums() const;

 private:
  void add_on_host(const HashedRows& rows, std::uint64_t& sum) const;
  void put_on_gpu();
  std::vector<std::uint64_t> sums_on_gpu() const;

  std::vector<HashedRows> parts_;
  int num_groups_;
  at::Tensor table_;                               ///< on a GPU: DeviceRows of each part, as bytes
  [[maybe_unused]] std::int64_t most_pieces_ = 0;  ///< on a GPU: of any part
};

}  // namespace dovetail
