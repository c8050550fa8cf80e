// Seeded weights: known answers, independence of how they are asked for, and their distribution.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "framework/base/seeded_chunk.hpp"
#include "models/weights/seeded.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using ::dovetail::testing::input_error_of;

at::Tensor poisoned(const std::vector<std::int64_t>& shape, at::ScalarType type = at::kFloat) {
  return at::full(shape, std::nan(""), type);
}

at::Tensor whole(std::uint64_t seed,
                 const std::string& name,
                 const std::vector<std::int64_t>& shape,
                 at::ScalarType type = at::kFloat) {
  at::Tensor values = poisoned(shape, type);
  SeededSource(seed).read({name, shape, 0, values});
  return values;
}

TEST(Seeded, PhiloxKnownAnswers) {
  // The published vectors of philox4x32-10 (Random123, tests/kat_vectors).
  const auto words = [](std::uint64_t seed, std::uint64_t parameter, std::uint64_t block) {
    const RandomBlock result = random_block(seed, parameter, block);
    return std::vector<std::uint32_t>(std::begin(result.words), std::end(result.words));
  };
  using Words = std::vector<std::uint32_t>;
  EXPECT_EQ(words(0, 0, 0), (Words{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
  EXPECT_EQ(words(~0ULL, ~0ULL, ~0ULL), (Words{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
  EXPECT_EQ(words(0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88),
            (Words{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}));
}

TEST(Seeded, NameKeyKnownAnswers) {
  // Published vectors of 64-bit FNV-1a.
  EXPECT_EQ(parameter_key(""), 0xCBF29CE484222325U);
  EXPECT_EQ(parameter_key("a"), 0xAF63DC4C8601EC8CU);
  EXPECT_EQ(parameter_key("foobar"), 0x85944171F73967E8U);
}

/// What the threads of a GPU write to `count` elements at a made-up address, one after the other;
/// `writes` counts.
template <int kPlaces, int kOffset>
void write_chunks(const ChunkedRun& run,
                  const SeededScale& scale,
                  std::vector<float>& values,
                  std::vector<int>& writes) {
  for (std::int64_t chunk = 0; chunk < run.num_chunks; ++chunk) {
    float made[kPlaces];
    seeded_chunk<kPlaces, kOffset>(9, 77, run.first_block + chunk * (kPlaces / 4), scale, made);
    const std::int64_t element = first_element(run, chunk, kPlaces);
    bool all_inside = true;
    bool any_inside = false;
    for (int place = 0; place < kPlaces; ++place) {
      const bool inside = element + place >= 0 && element + place < run.count;
      all_inside = all_inside && inside;
      any_inside = any_inside || inside;
      if (inside) {
        values[static_cast<std::size_t>(element + place)] = made[place];
        ++writes[static_cast<std::size_t>(element + place)];
      }
    }
    EXPECT_EQ(is_full_chunk(run, element, kPlaces), all_inside);
    EXPECT_TRUE(any_inside) << "a thread without work";
  }
}

template <int kPlaces>
void expect_chunks(std::int64_t first, std::int64_t count, std::int64_t lead) {
  constexpr std::int64_t element_bytes = kChunkStoreBytes / kPlaces;
  const SeededScale scale{.offset = 3, .shift = 8, .scale = 0.5F};
  const ChunkedRun run = cut_into_chunks(
      first, count, static_cast<std::uintptr_t>(4096 + lead * element_bytes), element_bytes);
  EXPECT_EQ(run.lead, lead);
  std::vector<float> values(static_cast<std::size_t>(count), std::nanf(""));
  std::vector<int> writes(values.size());
  switch (run.offset) {
    case 0:
      write_chunks<kPlaces, 0>(run, scale, values, writes);
      break;
    case 1:
      write_chunks<kPlaces, 1>(run, scale, values, writes);
      break;
    case 2:
      write_chunks<kPlaces, 2>(run, scale, values, writes);
      break;
    default:
      write_chunks<kPlaces, 3>(run, scale, values, writes);
  }
  std::vector<float> expected(values.size());
  generate_seeded(9, 77, scale, first, count, expected.data());
  EXPECT_EQ(values, expected) << "places " << kPlaces << ", first " << first << ", count " << count
                              << ", lead " << lead;
  EXPECT_EQ(writes, std::vector<int>(values.size(), 1));
  for (std::int64_t i = 0; i < count; ++i) {
    EXPECT_EQ(seeded_value_at(9, 77, first + i, scale), expected[static_cast<std::size_t>(i)]);
  }
}

TEST(Seeded, ChunksOfAnyRunHoldTheSameValues) {
  for (const std::int64_t start : {std::int64_t{0}, (std::int64_t{1} << 34) - 3}) {
    for (std::int64_t first = start; first < start + 9; ++first) {
      for (std::int64_t count = 0; count < 27; ++count) {
        for (std::int64_t lead = 0; lead < 4; ++lead) {
          expect_chunks<4>(first, count, lead);
        }
        for (std::int64_t lead = 0; lead < 8; ++lead) {
          expect_chunks<8>(first, count, lead);
        }
      }
    }
  }
}

struct KnownValue {
  std::uint64_t seed;
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t element;
  std::uint32_t float_bits;
};

TEST(Seeded, WeightKnownAnswers) {
  // From a separate implementation with exact fractions, one rounding at the end.
  const std::vector<KnownValue> known = {
      {0, "model.embed_tokens.weight", {8, 4}, 0, 0x3D10E84E},
      {42, "model.embed_tokens.weight", {8, 4}, 5, 0xBFB18E33},
      {42, "model.layers.3.mlp.experts.7.gate_proj.weight", {4096, 64}, 123456, 0x3E56FB2C},
      {~0ULL,
       "model.layers.0.self_attn.q_proj.weight",
       {std::int64_t{1} << 40, 96},
       (std::int64_t{1} << 34) + 3,
       0x3D9C9041},
      {42, "model.norm.weight", {16}, 9, 0x3F726B2A},
      {7, "model.layers.1.self_attn.q_norm.weight", {16}, 2, 0x3F8292B3},
      {7, "model.layers.1.self_attn.q_proj.bias", {16}, 2, 0x3BCD5708},
  };
  for (const KnownValue& each : known) {
    float value = std::nanf("");
    generate_seeded(each.seed,
                    parameter_key(each.name),
                    seeded_scale(each.name, each.shape),
                    each.element,
                    1,
                    &value);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(value), each.float_bits) << each.name << " " << value;
  }
  const at::Tensor norm = whole(42, "model.norm.weight", {16}, at::kBFloat16);
  EXPECT_EQ(static_cast<const std::uint16_t*>(norm.const_data_ptr())[9], 0x3F72);
  const at::Tensor embedding = whole(42, "model.embed_tokens.weight", {8, 4}, at::kBFloat16);
  EXPECT_EQ(static_cast<const std::uint16_t*>(embedding.const_data_ptr())[5], 0xBFB2);
}

TEST(Seeded, RowRangesAreSlicesOfTheWhole) {
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{13, 7}, {130, 129}, {5, 3, 11}, {37}}) {
    const std::string name = "some.proj.weight";
    const at::Tensor all = whole(3, name, shape);
    for (std::int64_t first = 0; first <= shape[0]; first += 1 + shape[0] / 17) {
      for (std::int64_t rows = 0; rows <= shape[0] - first; rows += 1 + shape[0] / 13) {
        std::vector<std::int64_t> part = shape;
        part[0] = rows;
        const at::Tensor values = poisoned(part);
        SeededSource(3).read({name, shape, first, values});
        ASSERT_TRUE(values.equal(all.narrow(0, first, rows))) << first << " " << rows;
      }
    }
  }
}

TEST(Seeded, TypesAreOneRoundingOfTheSameFloats) {
  const at::Tensor wide = whole(11, "w.weight", {300, 33});
  EXPECT_TRUE(whole(11, "w.weight", {300, 33}, at::kBFloat16).equal(wide.to(at::kBFloat16)));
  EXPECT_TRUE(whole(11, "w.weight", {300, 33}, at::kHalf).equal(wide.to(at::kHalf)));
}

TEST(Seeded, SeedNameAndElementEachMatter) {
  const at::Tensor base = whole(1, "a.weight", {64, 64});
  EXPECT_TRUE(base.equal(whole(1, "a.weight", {64, 64})));
  EXPECT_FALSE(base.equal(whole(2, "a.weight", {64, 64})));
  EXPECT_FALSE(base.equal(whole(1ULL << 32, "a.weight", {64, 64})));
  EXPECT_FALSE(base.equal(whole(1, "b.weight", {64, 64})));
  EXPECT_FALSE(base[0].equal(base[1]));
}

/// Mean and variance within 5 standard errors; 64 bins within 5 of chi-square's own deviations.
void expect_uniform(const at::Tensor& values, double centre, double half_width) {
  constexpr std::size_t num_bins = 64;
  const auto* const data = values.const_data_ptr<float>();
  const auto count = static_cast<double>(values.numel());
  double sum = 0.0;
  double squares = 0.0;
  std::array<double, num_bins> bins{};
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const double unit = (data[i] - centre) / half_width;  // uniform over (-1, 1)
    ASSERT_LT(std::abs(unit), 1.0);
    sum += unit;
    squares += unit * unit;
    bins[static_cast<std::size_t>((unit + 1.0) / 2.0 * num_bins)] += 1.0;
  }
  const double mean_error = std::sqrt(1.0 / 3.0 / count);
  EXPECT_LT(std::abs(sum / count), 5 * mean_error);
  const double variance_error = std::sqrt((1.0 / 5.0 - 1.0 / 9.0) / count);
  EXPECT_LT(std::abs(squares / count - 1.0 / 3.0), 5 * variance_error);
  double chi_square = 0.0;
  for (const double seen : bins) {
    const double expected = count / num_bins;
    chi_square += (seen - expected) * (seen - expected) / expected;
  }
  EXPECT_LT(std::abs(chi_square - (num_bins - 1)), 5 * std::sqrt(2.0 * (num_bins - 1)));
}

TEST(Seeded, Distributions) {
  const double root3 = std::sqrt(3.0);
  for (const std::uint64_t seed : {1ULL, 2ULL, 42ULL, 0xDEADBEEFCAFEULL}) {
    expect_uniform(whole(seed, "model.embed_tokens.weight", {1024, 512}), 0.0, root3);
    expect_uniform(whole(seed, "l.0.q_proj.weight", {1024, 256}), 0.0, root3 / 16.0);
    expect_uniform(whole(seed, "l.0.q_proj.bias", {65536}), 0.0, root3 / 50.0);
    expect_uniform(whole(seed, "l.0.input_layernorm.weight", {65536}), 1.0, 1.0 / 16.0);
  }
}

TEST(Seeded, NeighboursAndParametersAreUncorrelated) {
  const at::Tensor a = whole(9, "a.weight", {512, 3});  // 3: std 1/sqrt(3), values in (-1, 1)
  const at::Tensor b = whole(9, "b.weight", {512, 3});
  const auto correlation = [](const at::Tensor& x, const at::Tensor& y) {
    return x.mul(y).mean().item<double>() * 3.0;
  };
  EXPECT_LT(std::abs(correlation(a, b)), 5 / std::sqrt(1536.0));
  EXPECT_LT(std::abs(correlation(a.narrow(0, 0, 511), a.narrow(0, 1, 511))), 5 / std::sqrt(1533.0));
  EXPECT_GT(correlation(a, a), 0.9);
}

TEST(Seeded, HasTheNamesOfOneTensorPerExpertOnly) {
  SeededSource source(1);
  EXPECT_TRUE(source.has("model.layers.0.mlp.experts.3.down_proj.weight"));
  EXPECT_TRUE(source.has("model.layers.0.self_attn.q_proj.bias"));
  EXPECT_FALSE(source.has("model.layers.0.mlp.experts.gate_up_proj"));
  const std::string message = input_error_of([&] {
    source.read({"mlp.experts.gate_up_proj", {2, 2, 2}, 0, poisoned({2, 2, 2})});
  });
  EXPECT_NE(message.find("'mlp.experts.gate_up_proj'"), std::string::npos);
  EXPECT_NE(input_error_of([] {
              seeded_scale("odd", std::vector<std::int64_t>{3});
            }).find("no rule for 'odd'"),
            std::string::npos);
}

}  // namespace
}  // namespace dovetail
