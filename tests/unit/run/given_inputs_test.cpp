#include "framework/run/given_inputs.hpp"

#include <set>
#include <string>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

/// Rows of each token, also of those whose request and position are another one's position and
/// request.
TEST(SeededEmbeds, NameTheirToken) {
  StepWorkload step;
  constexpr std::int64_t count = 12;
  for (std::int64_t request = 0; request < count; ++request) {
    step.batch.requests.push_back({.id = request, .query_length = count});
    for (std::int64_t position = 0; position < count; ++position) {
      step.request_ids.push_back(request);
      step.positions.push_back(position);
    }
  }
  ModelDims dims;
  dims.hidden = 5;
  const auto embeds = seeded_embeds(step, dims, 3);
  ASSERT_EQ(embeds.sizes(), (at::IntArrayRef{count * count, 5}));
  std::set<std::string> rows;
  for (std::int64_t row = 0; row < embeds.size(0); ++row) {
    const auto one = embeds[row].contiguous();
    rows.emplace(static_cast<const char*>(one.const_data_ptr()), one.nbytes());
    EXPECT_LT(one.abs().max().item<float>(), 1);
  }
  EXPECT_EQ(rows.size(), static_cast<std::size_t>(count * count)) << "each row is there once";
  EXPECT_FALSE(seeded_embeds(step, dims, 4).equal(embeds)) << "by the seed";
  EXPECT_TRUE(seeded_embeds(step, dims, 3).equal(embeds));
}

}  // namespace
}  // namespace dovetail
