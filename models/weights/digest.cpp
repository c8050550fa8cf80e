#include "models/weights/digest.hpp"

#include <utility>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/word_hash.hpp"
#include "framework/step/torch_dtype.hpp"
#include "models/weights/expert_weights.hpp"
#include "models/weights/safetensors.hpp"
#include "models/weights/seeded_generator.hpp"

#ifdef DOVETAIL_WITH_CUDA
#include "models/weights/cuda/content_sums.hpp"
#endif

namespace dovetail {
namespace {

std::uint64_t start_of(std::string_view name) {
  return mix_bits(parameter_key(name));
}

struct Parameter {
  std::string name;
  at::Tensor values;
};

std::vector<std::uint64_t> sums_of(const std::vector<std::uint64_t>& starts,
                                   const std::vector<Parameter>& parameters) {
#ifdef DOVETAIL_WITH_CUDA
  if (!parameters.empty() && parameters.front().values.is_cuda()) {
    std::vector<at::Tensor> contents;
    for (const Parameter& parameter : parameters) {
      contents.push_back(parameter.values);
    }
    return content_sums_on_gpu(starts, contents);
  }
#endif
  std::vector<std::uint64_t> sums;
  for (const Parameter& parameter : parameters) {
    const at::Tensor& values = parameter.values;
    DOVETAIL_CHECK(values.is_cpu(), "digest of '" + parameter.name + "': not in host memory");
    sums.push_back(sum_of_words(starts[sums.size()],
                                static_cast<const unsigned char*>(values.const_data_ptr()),
                                static_cast<std::int64_t>(values.nbytes())));
  }
  return sums;
}

/// Sum of the digests of parameters on one device.
std::uint64_t sum_of_digests(const std::vector<Parameter>& parameters) {
  std::vector<std::uint64_t> starts;
  for (const auto& [name, values] : parameters) {
    DOVETAIL_CHECK(values.is_contiguous(), "digest of '" + name + "': must be contiguous");
    starts.push_back(start_of(name + " " +
                              std::string(to_string(from_torch(values.scalar_type()))) + " " +
                              format_shape({values.sizes().data(), values.sizes().size()})));
  }
  const std::vector<std::uint64_t> sums = sums_of(starts, parameters);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    total +=
        finish_hash(starts[i], static_cast<std::int64_t>(parameters[i].values.nbytes()), sums[i]);
  }
  return total;
}

}  // namespace

std::uint64_t content_hash(std::string_view name, std::span<const std::byte> bytes) {
  const std::uint64_t start = start_of(name);
  const auto size = static_cast<std::int64_t>(bytes.size());
  return finish_hash(
      start, size, sum_of_words(start, reinterpret_cast<const unsigned char*>(bytes.data()), size));
}

std::uint64_t parameter_digest(const std::string& name, const at::Tensor& values) {
  return sum_of_digests({{name, values}});
}

std::uint64_t experts_digest(const std::string& prefix,
                             int first_expert,
                             const at::Tensor& gate_up,
                             const at::Tensor& down) {
  const std::int64_t intermediate = down.size(2);
  DOVETAIL_CHECK_EQ(gate_up.size(1), 2 * intermediate);
  DOVETAIL_CHECK_EQ(gate_up.size(0), down.size(0));
  std::vector<Parameter> parameters;
  for (std::int64_t i = 0; i < gate_up.size(0); ++i) {
    const int expert = first_expert + static_cast<int>(i);
    const at::Tensor rows = gate_up.select(0, i);
    parameters.push_back(
        {expert_weight_name(prefix, expert, "gate_proj"), rows.narrow(0, 0, intermediate)});
    parameters.push_back({expert_weight_name(prefix, expert, "up_proj"),
                          rows.narrow(0, intermediate, intermediate)});
    parameters.push_back({expert_weight_name(prefix, expert, "down_proj"), down.select(0, i)});
  }
  return sum_of_digests(parameters);
}

}  // namespace dovetail
