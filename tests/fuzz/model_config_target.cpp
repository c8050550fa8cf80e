// config.json of models, read by every architecture.
#include "framework/base/scratch_folder.hpp"
#include "models/hf_config.hpp"
#include "models/registry.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"

namespace dovetail::fuzz {
namespace {

std::vector<std::string> seeds() {
  return files_below("tests/fixtures", "config.json");
}

std::vector<std::string> tokens() {
  return json_tokens_and({"NaN",
                          "Infinity",
                          "\"rope_scaling\": {\"type\": \"yarn\"}, ",
                          "\"rope_parameters\": {",
                          "\"mlp_only_layers\": [0], ",
                          "\"num_hidden_layers\": ",
                          "\"first_k_dense_replace\": 1, ",
                          "\"full_attention\"",
                          "\"mrope_section\": [2, 3, 3], ",
                          "\"n_group\": 2, "});
}

bool accepts(const std::string& bytes) {
  static const ScratchFolder folder("/dev/shm");
  static const std::string path = (folder.path() / "config.json").string();
  write_input(path, bytes);
  if (!is_read(path, [] { HfConfig::read(path); })) {
    return false;  // which is where every architecture begins, and most inputs end
  }
  bool accepted = false;
  for (const auto& name : architectures().names()) {
    accepted |= is_read(path, [&] {
      const auto architecture = architectures().at(name)({.architecture = name, .config = path});
      require(architecture->dims().hidden > 0, "a model without a hidden size");
      for (const auto& part : architecture->weight_memory({})) {
        require(part.bytes >= 0, part.name + " takes less than no memory");
      }
    });
  }
  return accepted;
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz
