// Content hashes of parameters, and how they add up to numbers that do not depend on the grid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// 64-bit hash of a name and bytes: a sum over the words of word_hash.hpp, then finished with the
/// size. Not cryptographic. Little-endian hosts only, as all that Dovetail runs on.
std::uint64_t content_hash(std::string_view name, std::span<const std::byte> bytes);

/// Hash of one whole parameter: name, type, shape and values. `values` contiguous, on the CPU or a
/// GPU, where it is hashed on the current stream and waited for: the same number.
std::uint64_t parameter_digest(const std::string& name, const at::Tensor& values);

/// Sum (mod 2^64) over the rank's experts of a layer of the digests of gate_proj, up_proj and
/// down_proj, each under its transformers 4 name: so both layouts of a checkpoint and all grids
/// agree after a sum over the ep group. `prefix`, `gate_up` and `down` as in read_experts.
std::uint64_t experts_digest(const std::string& prefix,
                             int first_expert,
                             const at::Tensor& gate_up,
                             const at::Tensor& down);

}  // namespace dovetail
