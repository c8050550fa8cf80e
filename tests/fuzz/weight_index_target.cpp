// The index of a checkpoint in several files, and its tensors read through it.
#include <ATen/ops/zeros.h>

#include "framework/base/scratch_folder.hpp"
#include "models/weights/checkpoint.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail::fuzz {
namespace {

/// A folder with two shards, in which an index is put.
class Shards {
 public:
  Shards() {
    write_input(folder_.path() / "one.safetensors",
                testing::safetensors_bytes(
                    R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "01234567"));
    write_input(folder_.path() / "two.safetensors",
                testing::safetensors_bytes(
                    R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", "0123"));
  }

  std::string folder() const { return folder_.path().string(); }

  void set_index(const std::string& bytes) const {
    write_input(folder_.path() / "model.safetensors.index.json", bytes);
  }

 private:
  ScratchFolder folder_{"/dev/shm"};
};

std::vector<std::string> seeds() {
  return {
      R"({"metadata":{"total_size":12},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})",
      R"({"weight_map":{"b":"two.safetensors","c":"one.safetensors"}})"};
}

std::vector<std::string> tokens() {
  return json_tokens_and({"../",
                          "/",
                          "..",
                          "\"weight_map\":",
                          "\"one.safetensors\"",
                          "\"two.safetensors\"",
                          "\"a\":",
                          "model.safetensors.index.json"});
}

bool accepts(const std::string& bytes) {
  static const Shards shards;
  shards.set_index(bytes);
  return is_read(shards.folder(), [&] {
    CheckpointSource source(shards.folder());
    for (const char* name : {"a", "b", "c"}) {
      is_read(shards.folder(), [&] {
        const at::Tensor values = at::zeros({2});
        source.read({.name = name, .shape = {2}, .destination = values});
      });
    }
  });
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz
