#include "tests/unit/models/fixture.hpp"

#include <cstring>

#include <ATen/ops/empty.h>

#include "framework/base/check.hpp"
#include "models/decoder/architecture.hpp"
#include "models/hf_config.hpp"
#include "models/registry.hpp"
#include "models/weights/checkpoint.hpp"
#include "models/weights/safetensors.hpp"

namespace dovetail {
namespace {

/// Passes another source's tensors on, changed on purpose.
class ChangedSource final : public WeightSource {
 public:
  ChangedSource(WeightSource& source, const WeightChange& change)
      : source_(source), change_(change) {}

  bool has(const std::string& name) const override { return source_.has(name); }

  bool is_stored(const std::string& name) const override { return source_.is_stored(name); }

  void read(const WeightRequest& request) override {
    source_.read(request);
    if (change_) {
      change_(request);
    }
  }

 private:
  WeightSource& source_;
  const WeightChange& change_;
};

at::Tensor stored(const SafetensorsFile& file, const std::string& name, at::ScalarType dtype) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) {
    return {};
  }
  const StoredTensor& entry = found->second;
  DOVETAIL_CHECK_EQ(entry.dtype, std::string(dtype == at::kFloat ? "F32" : "I64"));
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(dtype));
  const auto bytes = file.data(entry);
  DOVETAIL_CHECK_EQ(bytes.size(), tensor.nbytes());
  std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::vector<std::int64_t> numbers(const at::Tensor& tensor) {
  const auto* values = tensor.const_data_ptr<std::int64_t>();
  return {values, values + tensor.numel()};
}

std::vector<std::unique_ptr<Model>> make_models(const Architecture& architecture,
                                                const std::string& folder,
                                                int ep_size,
                                                at::ScalarType dtype,
                                                const WeightChange& change) {
  std::vector<std::unique_ptr<Model>> ranks;
  for (int rank = 0; rank < ep_size; ++rank) {
    CheckpointSource source(folder);
    ChangedSource changed(source, change);
    ranks.push_back(architecture.make_model(
        changed, {.ep_size = ep_size, .ep_rank = rank, .dtype = dtype, .device = at::kCPU}));
    DOVETAIL_CHECK(source.bytes_read() > 0, "nothing was read from " + folder);
  }
  return ranks;
}

}  // namespace

Fixture load_fixture(const std::string& name, const std::string& file, std::int64_t extra_tokens) {
  Fixture fixture;
  fixture.folder = std::string(DOVETAIL_SOURCE_DIR "/tests/fixtures/") + name;
  const SafetensorsFile values(fixture.folder + "/" + file + ".safetensors");
  fixture.hidden = stored(values, "hidden", at::kFloat);
  fixture.logits = stored(values, "logits", at::kFloat);
  fixture.embeds = stored(values, "embeds", at::kFloat);
  fixture.positions = stored(values, "positions", at::kLong);
  fixture.lengths = numbers(stored(values, "lengths", at::kLong));
  const at::Tensor ids = stored(values, "input_ids", at::kLong);
  auto next = ids.defined()
                  ? numbers(ids)
                  : std::vector<std::int64_t>(static_cast<std::size_t>(fixture.hidden.size(0)), 0);
  auto begin = next.begin();
  for (const std::int64_t length : fixture.lengths) {
    fixture.requests.emplace_back(begin, begin + length + extra_tokens);
    begin += length + extra_tokens;
  }
  DOVETAIL_CHECK(begin == next.end(), "lengths do not add up to the tokens of " + name);
  return fixture;
}

std::unique_ptr<Architecture> architecture_of(const Fixture& fixture) {
  const std::string config = fixture.folder + "/config.json";
  const auto name = HfConfig::read(config).string("model_type");
  return architectures().at(name)({name, config, {}, {}});
}

std::vector<std::unique_ptr<Model>> make_models(const Fixture& fixture,
                                                int ep_size,
                                                at::ScalarType dtype,
                                                const WeightChange& change) {
  return make_models(*architecture_of(fixture), fixture.folder, ep_size, dtype, change);
}

std::vector<std::unique_ptr<Model>> make_models(const Fixture& fixture,
                                                const MoeDecoderConfig& config) {
  return make_models(MoeDecoderArchitecture(config), fixture.folder, 1, at::kFloat, {});
}

}  // namespace dovetail
