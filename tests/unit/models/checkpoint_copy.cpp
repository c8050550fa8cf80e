#include "tests/unit/models/checkpoint_copy.hpp"

#include <fstream>
#include <vector>

#include "framework/base/check.hpp"
#include "models/weights/safetensors_writer.hpp"

namespace dovetail {
namespace {

/// Keeps what another source reads.
class KeepingSource final : public WeightSource {
 public:
  KeepingSource(WeightSource& source, Tensors& kept) : source_(source), kept_(kept) {}

  bool has(const std::string& name) const override { return source_.has(name); }

  bool is_stored(const std::string& name) const override { return source_.is_stored(name); }

  void read(const WeightRequest& request) override {
    source_.read(request);
    kept_[request.name] = request.destination.clone();
  }

 private:
  WeightSource& source_;
  Tensors& kept_;
};

std::string stored_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "F32";
    case at::kHalf:
      return "F16";
    case at::kBFloat16:
      return "BF16";
    case at::kFloat8_e4m3fn:
      return "F8_E4M3";
    case at::kFloat8_e8m0fnu:
      return "F8_E8M0";
    default:
      throw ContractError("a type that no checkpoint here has");
  }
}

}  // namespace

Tensors parameters_of(const Architecture& architecture,
                      WeightSource& source,
                      at::ScalarType dtype) {
  Tensors tensors;
  KeepingSource keeping(source, tensors);
  architecture.make_model(keeping, {.dtype = dtype});
  return tensors;
}

void write_checkpoint(const std::string& folder,
                      const nlohmann::json& config,
                      const Tensors& tensors) {
  if (!config.is_null()) {
    std::ofstream(folder + "/config.json") << config.dump();
  }
  std::vector<TensorToWrite> list;
  for (const auto& [name, tensor] : tensors) {
    DOVETAIL_CHECK(tensor.is_contiguous(), name);
    list.push_back({name,
                    stored_type(tensor.scalar_type()),
                    tensor.sizes().vec(),
                    {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
  }
  write_safetensors(folder + "/model.safetensors", list);
}

}  // namespace dovetail
