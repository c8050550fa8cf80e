// Checkpoint folders: sharded and single, rows, conversions, both expert layouts, and every way in
// which a folder can be wrong.
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "models/weights/checkpoint.hpp"
#include "models/weights/digest.hpp"
#include "models/weights/expert_weights.hpp"
#include "models/weights/safetensors_writer.hpp"
#include "models/weights/seeded.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using ::dovetail::testing::input_error_of;
using ::dovetail::testing::ScratchFolder;
using ::dovetail::testing::write_file;

using Tensors = std::map<std::string, at::Tensor>;

std::string stored_name(at::ScalarType type) {
  return type == at::kFloat      ? "F32"
         : type == at::kHalf     ? "F16"
         : type == at::kBFloat16 ? "BF16"
                                 : "I64";
}

void write_tensors(const std::string& path, const Tensors& tensors) {
  std::vector<TensorToWrite> list;
  for (const auto& [name, tensor] : tensors) {
    list.push_back({name,
                    stored_name(tensor.scalar_type()),
                    tensor.sizes().vec(),
                    {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
  }
  write_safetensors(path, list);
}

/// Values that name where they come from: exact in bfloat16 for less than 256 elements.
at::Tensor numbered(const std::vector<std::int64_t>& shape,
                    int start,
                    at::ScalarType type = at::kFloat) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    count *= size;
  }
  return at::arange(start, start + count, at::kFloat).reshape(shape).to(type);
}

at::Tensor poisoned(const std::vector<std::int64_t>& shape, at::ScalarType type = at::kFloat) {
  return at::full(shape, std::nan(""), type);
}

TEST(Checkpoint, SingleFileEveryTypeToEveryType) {
  const ScratchFolder folder;
  Tensors tensors;
  for (const at::ScalarType from : {at::kFloat, at::kHalf, at::kBFloat16}) {
    tensors["w." + stored_name(from)] = numbered({8, 5}, 3, from);
  }
  write_tensors(folder / "model.safetensors", tensors);
  CheckpointSource source(folder.path());
  std::int64_t owned_bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(source.has(name));
    for (const at::ScalarType to : {at::kFloat, at::kHalf, at::kBFloat16}) {
      const at::Tensor destination = poisoned({8, 5}, to);
      source.read({name, {8, 5}, 0, destination});
      EXPECT_TRUE(destination.equal(tensor.to(to))) << name;
      owned_bytes += static_cast<std::int64_t>(tensor.nbytes());
    }
  }
  EXPECT_EQ(source.bytes_read(), owned_bytes);
  EXPECT_FALSE(source.has("w"));
}

TEST(Checkpoint, RowRangesAreSlicesAndTouchNothingElse) {
  const ScratchFolder folder;
  const at::Tensor whole = numbered({7, 3, 2}, 0, at::kBFloat16);
  write_tensors(folder / "model.safetensors", {{"w", whole}, {"_", numbered({1}, 0)}});
  CheckpointSource source(folder.path());
  for (std::int64_t first = 0; first <= 7; ++first) {
    for (std::int64_t rows = 0; rows <= 7 - first; ++rows) {
      const at::Tensor frame = poisoned({rows + 2, 3, 2});
      const std::int64_t before = source.bytes_read();
      source.read({"w", {7, 3, 2}, first, frame.narrow(0, 1, rows)});
      EXPECT_TRUE(frame.narrow(0, 1, rows).equal(whole.narrow(0, first, rows).to(at::kFloat)));
      EXPECT_TRUE(frame[0].isnan().all().item<bool>());
      EXPECT_TRUE(frame[rows + 1].isnan().all().item<bool>());
      EXPECT_EQ(source.bytes_read() - before, rows * 12);
    }
  }
}

TEST(Checkpoint, TensorsLargerThanAPieceAreWhole) {
  const ScratchFolder folder;
  const at::Tensor whole = at::empty({3 << 20}, at::kBFloat16);  // 6 MiB, pieces are 4 MiB
  SeededSource(5).read({"w.weight", {1, 3 << 20}, 0, whole.view({1, 3 << 20})});
  write_tensors(folder / "model.safetensors", {{"a", numbered({1}, 0, at::kHalf)}, {"w", whole}});
  CheckpointSource source(folder.path());
  const at::Tensor same = poisoned({3 << 20}, at::kBFloat16);
  source.read({"w", {3 << 20}, 0, same});
  EXPECT_TRUE(same.equal(whole));
  const at::Tensor wide = poisoned({3 << 20});
  source.read({"w", {3 << 20}, 0, wide});
  EXPECT_TRUE(wide.equal(whole.to(at::kFloat)));
}

/// As `dovetail check` looks at a checkpoint.
TEST(Checkpoint, OnTheMetaDeviceAllIsCheckedAndNothingRead) {
  const ScratchFolder folder;
  write_tensors(folder / "model.safetensors",
                {{"w", numbered({8, 5}, 0)}, {"i", at::full({2}, 1, at::kLong)}});
  CheckpointSource source(folder.path());
  const auto nowhere = [](const std::vector<std::int64_t>& shape) {
    return at::empty(shape, at::TensorOptions().dtype(at::kBFloat16).device(at::kMeta));
  };
  source.read({"w", {8, 5}, 2, nowhere({4, 5})});
  EXPECT_EQ(source.bytes_read(), 0);
  EXPECT_NE(input_error_of([&] { source.read({"v", {8, 5}, 0, nowhere({8, 5})}); }), "");
  EXPECT_NE(input_error_of([&] { source.read({"w", {8, 6}, 0, nowhere({8, 6})}); }), "");
  EXPECT_NE(input_error_of([&] { source.read({"i", {2}, 0, nowhere({2})}); }), "");
  SeededSource(5).read({"w.weight", {8, 5}, 0, nowhere({8, 5})});
}

/// Two shards: "a" in the first, "b" in the second; the index can be replaced.
class Sharded : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tensors(folder_ / "s1.safetensors", {{"a", numbered({4}, 0)}});
    write_tensors(folder_ / "s2.safetensors", {{"b", numbered({4}, 10)}});
    index(R"({"metadata":{"total_size":32},"weight_map":)"
          R"({"a":"s1.safetensors","b":"s2.safetensors"}})");
  }

  void index(const std::string& text) {
    write_file(folder_ / "model.safetensors.index.json", text);
  }

  std::string error_of_opening() {
    return input_error_of([&] { CheckpointSource source(folder_.path()); });
  }

  ScratchFolder folder_;
};

TEST_F(Sharded, MapsOnlyWhatIsRead) {
  CheckpointSource source(folder_.path());
  EXPECT_TRUE(source.has("a") && source.has("b"));
  EXPECT_EQ(source.num_mapped_files(), 0);
  const at::Tensor destination = poisoned({4});
  source.read({"b", {4}, 0, destination});
  EXPECT_TRUE(destination.equal(numbered({4}, 10)));
  EXPECT_EQ(source.num_mapped_files(), 1);
  EXPECT_EQ(source.bytes_read(), 16);
}

TEST_F(Sharded, TheSingleFileGoesFirst) {
  write_tensors(folder_ / "model.safetensors", {{"single", numbered({1}, 0)}});
  CheckpointSource source(folder_.path());
  EXPECT_TRUE(source.has("single"));
  EXPECT_FALSE(source.has("a"));
}

TEST_F(Sharded, BrokenIndicesAreNamed) {
  const std::string path = folder_ / "model.safetensors.index.json: ";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not JSON"},
      {"[]", "an object is needed, not array"},
      {"{", "not JSON"},
      {"{}", "'weight_map'"},
      {R"({"weight_map":[]})", "'weight_map'"},
      {R"({"weight_map":{"a":1}})", "tensor 'a': file is 1; allowed: a string"},
      {R"({"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}})", "'a' is there twice"},
      {R"({"weight_map":{"a":"s3.safetensors"}})", "tensor 'a': shard 's3.safetensors' is not"},
      {R"({"weight_map":{"a":"../s1.safetensors"}})", "file '../s1.safetensors'; allowed"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "file '/etc/passwd'; allowed"},
      {R"({"weight_map":{"a":".."}})", "file '..'; allowed"},
      {R"({"weight_map":{"a":""}})", "file ''; allowed"},
      {R"({"weight_map":{"a":"s1.safetensors\u0000x"}})",
       "file 's1.safetensors?x'; allowed: the name of a file"},
  };
  for (const auto& [text, expected] : cases) {
    index(text);
    const std::string message = error_of_opening();
    EXPECT_EQ(message.rfind(path, 0), 0U) << message;
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  }
}

TEST_F(Sharded, AnIndexThatDisagreesWithItsShardIsNamed) {
  index(R"({"weight_map":{"a":"s2.safetensors"}})");
  CheckpointSource source(folder_.path());
  const std::string message = input_error_of([&] { source.read({"a", {4}, 0, poisoned({4})}); });
  EXPECT_NE(message.find("s2.safetensors: no tensor 'a', although"), std::string::npos) << message;
}

TEST_F(Sharded, TheIndexDecidesWhichOfTwoShardsHasATensor) {
  write_tensors(folder_ / "s3.safetensors", {{"a", numbered({4}, 20)}, {"c", numbered({4}, 10)}});
  for (const auto& [shard, first] : {std::pair("s1.safetensors", 0), {"s3.safetensors", 20}}) {
    index(std::string(R"({"weight_map":{"c":"s3.safetensors","a":")") + shard + "\"}}");
    CheckpointSource source(folder_.path());
    const at::Tensor other = poisoned({4});
    source.read({"c", {4}, 0, other});
    const at::Tensor destination = poisoned({4});
    source.read({"a", {4}, 0, destination});
    EXPECT_TRUE(destination.equal(numbered({4}, first))) << shard;
  }
}

TEST_F(Sharded, ABrokenShardIsNamedEachTime) {
  write_file(folder_ / "s1.safetensors", "short");
  CheckpointSource source(folder_.path());
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::string message = input_error_of([&] { source.read({"a", {4}, 0, poisoned({4})}); });
    EXPECT_NE(message.find("s1.safetensors: has 5 bytes"), std::string::npos) << message;
  }
}

TEST(Checkpoint, FoldersWithoutWeightsAreNamed) {
  const ScratchFolder folder;
  EXPECT_EQ(input_error_of([&] { CheckpointSource source(folder / "none"); }),
            folder / "none" + ": no such checkpoint folder");
  const std::string message = input_error_of([&] { CheckpointSource source(folder.path()); });
  EXPECT_NE(message.find("needed: model.safetensors"), std::string::npos) << message;
}

TEST(Checkpoint, FilesThatAreThereAreNamedWhereNoneCanBeChosen) {
  const ScratchFolder folder;
  const auto open = [&] { return input_error_of([&] { CheckpointSource{folder.path()}; }); };
  EXPECT_EQ(open().find(folder.path() + ": holds no weights; needed: model.safetensors"), 0U);
  for (const char* const name :
       {"model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"}) {
    write_tensors(folder / name, {{"a", numbered({1}, 0)}});
  }
  EXPECT_EQ(open().find(folder.path() +
                        ": holds 'model-00001-of-00002.safetensors' and 1 more .safetensors files"),
            0U)
      << open();
}

TEST(Checkpoint, AStaleFileBesideAnIndexIsNamed) {
  const ScratchFolder folder;
  write_tensors(folder / "model.safetensors", {{"old", numbered({1}, 0)}});
  write_file(folder / "model.safetensors.index.json", R"({"weight_map":{}})");
  CheckpointSource source(folder.path());
  EXPECT_EQ(input_error_of([&] {
              source.read({"new", {1}, 0, poisoned({1})});
            }),
            folder.path() +
                ": no tensor 'new' in this checkpoint; the nearest name is tensor 'old': "
                "model.safetensors is read, and "
                "model.safetensors.index.json beside it is not");
}

TEST(Checkpoint, WrongTensorsAreNamedWithFileAndNeed) {
  const ScratchFolder folder;
  write_tensors(folder / "model.safetensors",
                {{"w", numbered({2, 3}, 0)}, {"ids", numbered({2}, 0, at::kLong)}});
  CheckpointSource source(folder.path());
  const auto message = [&](const char* name, const std::vector<std::int64_t>& shape) {
    return input_error_of([&] { source.read({name, shape, 0, poisoned(shape)}); });
  };
  EXPECT_EQ(message("v", {2}),
            folder.path() + ": no tensor 'v' in this checkpoint; the nearest name is tensor 'ids'");
  EXPECT_EQ(message("w", {3, 2}),
            folder / "model.safetensors" + ": tensor 'w' has shape [2, 3]; the model needs [3, 2]");
  EXPECT_NE(message("w", {6}).find("needs [6]"), std::string::npos);
  EXPECT_NE(message("ids", {2}).find("dtype I64 cannot be read"), std::string::npos);
  EXPECT_EQ(source.bytes_read(), 0);
}

TEST(Checkpoint, BrokenRequestsAreContractErrors) {
  const ScratchFolder folder;
  write_tensors(folder / "model.safetensors", {{"w", numbered({4, 2}, 0)}});
  CheckpointSource source(folder.path());
  const auto read = [&](std::int64_t first, const at::Tensor& destination) {
    source.read({"w", {4, 2}, first, destination});
  };
  EXPECT_THROW(read(0, at::Tensor()), ContractError);
  EXPECT_THROW(read(0, poisoned({2, 4}).t()), ContractError);
  EXPECT_THROW(read(0, poisoned({4, 3})), ContractError);
  EXPECT_THROW(read(0, poisoned({8})), ContractError);
  EXPECT_THROW(read(-1, poisoned({2, 2})), ContractError);
  EXPECT_THROW(read(3, poisoned({2, 2})), ContractError);
  EXPECT_NO_THROW(read(2, poisoned({2, 2})));
}

constexpr int kExperts = 6;
constexpr std::int64_t kHidden = 4;
constexpr std::int64_t kIntermediate = 3;

/// The same experts in both layouts of a checkpoint.
void write_experts(const std::string& v4, const std::string& v5) {
  const std::string prefix = "model.layers.1.mlp";
  const at::Tensor gate_up = numbered({kExperts, 2 * kIntermediate, kHidden}, 0);
  const at::Tensor down = numbered({kExperts, kHidden, kIntermediate}, 1000);
  write_tensors(
      v5 + "/model.safetensors",
      {{prefix + ".experts.gate_up_proj", gate_up}, {prefix + ".experts.down_proj", down}});
  Tensors pieces;
  for (int expert = 0; expert < kExperts; ++expert) {
    const std::string name = prefix + ".experts." + std::to_string(expert);
    pieces[name + ".gate_proj.weight"] = gate_up[expert].slice(0, 0, kIntermediate).clone();
    pieces[name + ".up_proj.weight"] = gate_up[expert].slice(0, kIntermediate).clone();
    pieces[name + ".down_proj.weight"] = down[expert].clone();
  }
  write_tensors(v4 + "/model.safetensors", pieces);
}

TEST(ExpertWeights, BothLayoutsGiveEachRankItsExperts) {
  const ScratchFolder v4;
  const ScratchFolder v5;
  write_experts(v4.path(), v5.path());
  const at::Tensor all_gate_up = numbered({kExperts, 2 * kIntermediate, kHidden}, 0);
  const at::Tensor all_down = numbered({kExperts, kHidden, kIntermediate}, 1000);
  const std::uint64_t digest = experts_digest("model.layers.1.mlp", 0, all_gate_up, all_down);
  for (const std::string& path : {v4.path(), v5.path()}) {
    for (const int ep_size : {1, 2, 3, 6}) {
      CheckpointSource source(path);
      const int num_local = kExperts / ep_size;
      std::uint64_t sum = 0;
      for (int rank = 0; rank < ep_size; ++rank) {
        const int first = rank * num_local;
        const at::Tensor gate_up = poisoned({num_local, 2 * kIntermediate, kHidden});
        const at::Tensor down = poisoned({num_local, kHidden, kIntermediate});
        read_experts(source, "model.layers.1.mlp", first, kExperts, gate_up, down);
        EXPECT_TRUE(gate_up.equal(all_gate_up.narrow(0, first, num_local)));
        EXPECT_TRUE(down.equal(all_down.narrow(0, first, num_local)));
        sum += experts_digest("model.layers.1.mlp", first, gate_up, down);
      }
      EXPECT_EQ(sum, digest) << "ep_size " << ep_size;
      // All ranks together read each byte of the file once.
      EXPECT_EQ(source.bytes_read(),
                static_cast<std::int64_t>(all_gate_up.nbytes() + all_down.nbytes()));
    }
  }
}

TEST(ExpertWeights, WrongLayersAreNamed) {
  const ScratchFolder v4;
  const ScratchFolder v5;
  write_experts(v4.path(), v5.path());
  CheckpointSource source(v5.path());
  const auto read = [&](const char* prefix, int num_experts, std::int64_t intermediate) {
    return input_error_of([&] {
      read_experts(source,
                   prefix,
                   0,
                   num_experts,
                   poisoned({2, 2 * intermediate, kHidden}),
                   poisoned({2, kHidden, intermediate}));
    });
  };
  const std::string missing = read("model.layers.0.mlp", kExperts, kIntermediate);
  EXPECT_NE(missing.find("model.layers.0.mlp.experts.gate_up_proj"), std::string::npos) << missing;
  EXPECT_NE(missing.find("model.layers.0.mlp.experts.0.gate_proj.weight"), std::string::npos);
  EXPECT_NE(read("model.layers.1.mlp", kExperts + 2, kIntermediate).find("has shape [6, 6, 4]"),
            std::string::npos);
  EXPECT_NE(read("model.layers.1.mlp", kExperts, kIntermediate + 1).find("needs [6, 8, 4]"),
            std::string::npos);
  EXPECT_THROW(read_experts(source,
                            "model.layers.1.mlp",
                            5,
                            kExperts,
                            poisoned({2, 2 * kIntermediate, kHidden}),
                            poisoned({2, kHidden, kIntermediate})),
               ContractError);
}

TEST(ExpertWeights, AnExpertMissingFromTheV4LayoutIsNamed) {
  const ScratchFolder folder;
  write_tensors(folder / "model.safetensors",
                {{"m.experts.0.gate_proj.weight", numbered({3, 4}, 0)},
                 {"m.experts.0.up_proj.weight", numbered({3, 4}, 0)},
                 {"m.experts.0.down_proj.weight", numbered({4, 3}, 0)}});
  CheckpointSource source(folder.path());
  const std::string message = input_error_of([&] {
    read_experts(source, "m", 0, 2, poisoned({2, 6, 4}), poisoned({2, 4, 3}));
  });
  EXPECT_EQ(message,
            folder.path() +
                ": no tensor 'm.experts.1.gate_proj.weight' in this checkpoint; the "
                "nearest name is tensor 'm.experts.0.gate_proj.weight'");
}

}  // namespace
}  // namespace dovetail
