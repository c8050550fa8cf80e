#include "tests/unit/models/chunked_run.hpp"

#include <algorithm>
#include <iterator>

#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

namespace dovetail {

std::vector<std::int64_t> lengths_of(const std::vector<std::vector<std::int64_t>>& requests) {
  std::vector<std::int64_t> lengths;
  for (const auto& request : requests) {
    lengths.push_back(std::ssize(request));
  }
  return lengths;
}

ChunkSizes random_chunks(const std::vector<std::int64_t>& lengths, std::mt19937_64& random) {
  ChunkSizes sizes;
  auto left = lengths;
  while (std::any_of(left.begin(), left.end(), [](auto count) { return count > 0; })) {
    sizes.emplace_back();
    for (auto& count : left) {
      const auto most = std::min<std::int64_t>(count, 90);
      const auto chunk = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most + 1));
      const auto now = random() % 3 == 0 ? std::min<std::int64_t>(most, 1) : chunk;
      sizes.back().push_back(now);
      count -= now;
    }
  }
  return sizes;
}

SerialStep next_step(const ChunkedRequests& requests,
                     const std::vector<std::int64_t>& contexts,
                     const std::vector<std::int64_t>& counts) {
  std::vector<std::vector<std::int64_t>> parts;
  std::vector<std::int64_t> rows;
  std::int64_t first_row = 0;
  for (std::size_t r = 0; r < requests.requests.size(); ++r) {
    const auto& request = requests.requests[r];
    parts.emplace_back(request.begin() + contexts[r], request.begin() + contexts[r] + counts[r]);
    for (std::int64_t i = contexts[r]; i < contexts[r] + counts[r]; ++i) {
      rows.push_back(first_row + i);
    }
    first_row += std::ssize(request);
  }
  SerialStep step = whole_step(parts);
  step.context_lengths = contexts;
  const at::Tensor selected = at::tensor(rows, at::kLong);
  if (requests.embeds.defined()) {
    step.embeds = at::index_select(requests.embeds, 0, selected);
  }
  if (requests.mrope_positions.defined()) {
    step.mrope_positions = at::index_select(requests.mrope_positions, 1, selected);
  }
  return step;
}

ChunkedResult run_chunks(const std::vector<std::unique_ptr<Model>>& ranks,
                         const ChunkedRequests& requests,
                         const ChunkSizes& sizes,
                         SerialCache& cache,
                         std::mt19937_64* split) {
  const std::size_t num_requests = requests.requests.size();
  std::vector<std::vector<at::Tensor>> hidden(num_requests);
  std::vector<std::vector<at::Tensor>> logits(num_requests);
  std::vector<std::int64_t> contexts(num_requests, 0);
  for (const auto& counts : sizes) {
    SerialStep step = next_step(requests, contexts, counts);
    const auto end = static_cast<std::uint64_t>(step.ubatch_ends.back());
    for (int cut = 0; split != nullptr && cut < 3; ++cut) {
      step.ubatch_ends.push_back(static_cast<std::int64_t>((*split)() % (end + 1)));
    }
    std::sort(step.ubatch_ends.begin(), step.ubatch_ends.end());
    const SerialResult result = run_step(ranks, step, cache);
    std::int64_t row = 0;
    for (std::size_t r = 0; r < num_requests; ++r) {
      hidden[r].push_back(result.hidden.narrow(0, row, counts[r]));
      logits[r].push_back(result.logits.narrow(0, row, counts[r]));
      row += counts[r];
      contexts[r] += counts[r];
    }
  }
  const auto join = [](const std::vector<std::vector<at::Tensor>>& parts) {
    std::vector<at::Tensor> all;
    for (const auto& of_request : parts) {
      all.insert(all.end(), of_request.begin(), of_request.end());
    }
    return at::cat(all);
  };
  return {.hidden = join(hidden), .logits = join(logits)};
}

}  // namespace dovetail
