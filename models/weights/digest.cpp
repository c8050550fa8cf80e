#include "models/weights/digest.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"
#include "framework/device/torch_dtype.hpp"
#include "models/weights/expert_weights.hpp"
#include "models/weights/safetensors.hpp"
#include "models/weights/seeded_generator.hpp"

namespace dovetail {
namespace {

static_assert(std::endian::native == std::endian::little, "digests read words as they lie");

constexpr std::uint64_t kStart = 0x9E3779B97F4A7C15U;  // any number but 0
constexpr std::size_t kNumLanes = 4;                   // hides the latency of the multiplier
constexpr std::size_t kWordBytes = sizeof(std::uint64_t);

/// A bijection of `state` for each word and of `word` for each state: a single changed word can
/// never be lost on the way. Weaker mixing lets pairs of changed high bits cancel.
std::uint64_t absorb(std::uint64_t state, std::uint64_t word) {
  return mix_bits(state ^ word);
}

}  // namespace

std::uint64_t content_hash(std::string_view name, std::span<const std::byte> bytes) {
  std::array<std::uint64_t, kNumLanes> lanes{};
  for (std::size_t lane = 0; lane < kNumLanes; ++lane) {
    lanes[lane] = absorb(parameter_key(name), lane + 1);
  }
  const auto word_at = [&](std::size_t position, std::size_t size) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + position, size);
    return word;
  };
  std::size_t position = 0;
  for (; position + kNumLanes * kWordBytes <= bytes.size(); position += kNumLanes * kWordBytes) {
    for (std::size_t lane = 0; lane < kNumLanes; ++lane) {
      lanes[lane] = absorb(lanes[lane], word_at(position + lane * kWordBytes, kWordBytes));
    }
  }
  std::uint64_t hash = absorb(kStart, bytes.size());
  for (; position < bytes.size(); position += kWordBytes) {
    hash = absorb(hash, word_at(position, std::min(kWordBytes, bytes.size() - position)));
  }
  for (const std::uint64_t lane : lanes) {
    hash = absorb(hash, lane);
  }
  return absorb(hash, kNumLanes);
}

std::uint64_t parameter_digest(const std::string& name, const at::Tensor& values) {
  DOVETAIL_CHECK(values.is_contiguous(), "digest of '" + name + "': must be contiguous");
  const at::Tensor host = values.is_cpu() ? values : values.cpu();
  const std::string key = name + " " + std::string(to_string(from_torch(host.scalar_type()))) +
                          " " + format_shape({host.sizes().data(), host.sizes().size()});
  return content_hash(key, {static_cast<const std::byte*>(host.const_data_ptr()), host.nbytes()});
}

std::uint64_t experts_digest(const std::string& prefix,
                             int first_expert,
                             const at::Tensor& gate_up,
                             const at::Tensor& down) {
  const std::int64_t intermediate = down.size(2);
  DOVETAIL_CHECK_EQ(gate_up.size(1), 2 * intermediate);
  DOVETAIL_CHECK_EQ(gate_up.size(0), down.size(0));
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < gate_up.size(0); ++i) {
    const int expert = first_expert + static_cast<int>(i);
    const at::Tensor rows = gate_up.select(0, i);
    sum += parameter_digest(expert_weight_name(prefix, expert, "gate_proj"),
                            rows.narrow(0, 0, intermediate));
    sum += parameter_digest(expert_weight_name(prefix, expert, "up_proj"),
                            rows.narrow(0, intermediate, intermediate));
    sum += parameter_digest(expert_weight_name(prefix, expert, "down_proj"), down.select(0, i));
  }
  return sum;
}

}  // namespace dovetail
