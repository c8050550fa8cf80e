#include "framework/mpi/collectives.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

MPI_Op mpi_op(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return MPI_SUM;
    case Reduction::min:
      return MPI_MIN;
    case Reduction::max:
      return MPI_MAX;
  }
  return MPI_OP_NULL;
}

int checked_count(std::size_t size) {
  DOVETAIL_CHECK(size <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
                 "more than MPI's counts can say: " + std::to_string(size));
  return static_cast<int>(size);
}

// "0-2, 4" for ascending ranks.
std::string describe_ranks(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t first = 0; first < ranks.size();) {
    std::size_t last = first;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) {
      ++last;
    }
    text += (text.empty() ? "" : ", ") + std::to_string(ranks[first]);
    if (last > first) {
      text += "-" + std::to_string(ranks[last]);
    }
    first = last + 1;
  }
  return (ranks.size() == 1 ? "rank " : "ranks ") + text;
}

struct GatherBuffers {
  std::string text;
  int size = 0;
  std::vector<int> sizes;
  std::vector<int> offsets;
  std::string all;
};

}  // namespace

void broadcast_text(const MpiComm& comm, std::string& text, const WaitPolicy& policy) {
  struct Buffers {
    int size = 0;
    std::string text;
  };

  require_may_communicate("broadcast of a text");
  auto buffers = std::make_unique<Buffers>();
  if (comm.rank() == 0) {
    *buffers = {checked_count(text.size()), text};
  }
  MPI_Request request = MPI_REQUEST_NULL;
  DOVETAIL_MPI(MPI_Ibcast(&buffers->size, 1, MPI_INT, 0, comm.raw(), &request));
  wait_owning(buffers, request, policy, "broadcast of a text's size");
  buffers->text.resize(static_cast<std::size_t>(buffers->size));
  DOVETAIL_MPI(MPI_Ibcast(buffers->text.data(), buffers->size, MPI_CHAR, 0, comm.raw(), &request));
  wait_owning(buffers, request, policy, "broadcast of a text");
  text = std::move(buffers->text);
}

std::vector<std::string> gather_texts(const MpiComm& comm,
                                      const std::string& text,
                                      const WaitPolicy& policy) {
  require_may_communicate("gathering of texts");
  const bool root = comm.rank() == 0;
  const auto num_ranks = static_cast<std::size_t>(comm.size());
  auto buffers = std::make_unique<GatherBuffers>();
  buffers->text = text;
  buffers->size = checked_count(text.size());
  buffers->sizes.resize(root ? num_ranks : 0);
  buffers->offsets.resize(buffers->sizes.size());
  MPI_Request request = MPI_REQUEST_NULL;
  DOVETAIL_MPI(MPI_Igather(
      &buffers->size, 1, MPI_INT, buffers->sizes.data(), 1, MPI_INT, 0, comm.raw(), &request));
  wait_owning(buffers, request, policy, "gather of the texts' sizes");
  const auto total = std::accumulate(
      buffers->sizes.begin(), buffers->sizes.end(), std::size_t{0}, [](auto a, int b) {
        return a + static_cast<std::size_t>(b);
      });
  checked_count(total);
  std::exclusive_scan(buffers->sizes.begin(), buffers->sizes.end(), buffers->offsets.begin(), 0);
  buffers->all.resize(total);
  DOVETAIL_MPI(MPI_Igatherv(buffers->text.data(),
                            buffers->size,
                            MPI_CHAR,
                            buffers->all.data(),
                            buffers->sizes.data(),
                            buffers->offsets.data(),
                            MPI_CHAR,
                            0,
                            comm.raw(),
                            &request));
  wait_owning(buffers, request, policy, "gather of texts");
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < buffers->sizes.size(); ++rank) {
    texts.push_back(buffers->all.substr(static_cast<std::size_t>(buffers->offsets[rank]),
                                        static_cast<std::size_t>(buffers->sizes[rank])));
  }
  return texts;
}

void all_reduce(const MpiComm& comm,
                std::span<std::int64_t> values,
                Reduction reduction,
                const WaitPolicy& policy) {
  require_may_communicate("reduction");
  auto buffer = std::make_unique<std::vector<std::int64_t>>(values.begin(), values.end());
  std::int64_t* data = buffer->data();
  MPI_Request request = MPI_REQUEST_NULL;
  DOVETAIL_MPI(MPI_Iallreduce(MPI_IN_PLACE,
                              data,
                              checked_count(buffer->size()),
                              MPI_INT64_T,
                              mpi_op(reduction),
                              comm.raw(),
                              &request));
  wait_owning(buffer, request, policy, "all-reduce");
  std::copy(buffer->begin(), buffer->end(), values.begin());
}

std::string merge_messages(const std::vector<std::optional<std::string>>& messages) {
  std::vector<std::pair<std::string, std::vector<int>>> groups;  // by first rank
  for (std::size_t rank = 0; rank < messages.size(); ++rank) {
    if (!messages[rank]) {
      continue;
    }
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& candidate) {
      return candidate.first == *messages[rank];
    });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), {*messages[rank], {}});
    }
    group->second.push_back(static_cast<int>(rank));
  }
  if (groups.size() == 1 && groups[0].second.size() == messages.size()) {
    return groups[0].first;
  }
  std::string text;
  for (const auto& [message, ranks] : groups) {
    text += (text.empty() ? "" : "\n") + describe_ranks(ranks) + ": " + message;
  }
  return text;
}

std::uint64_t sum_over(const MpiComm& comm, std::uint64_t value, const WaitPolicy& policy) {
  std::array<std::int64_t, 1> values = {static_cast<std::int64_t>(value)};
  all_reduce(comm, values, Reduction::sum, policy);
  return static_cast<std::uint64_t>(values[0]);
}

bool equal_on_all_ranks(const MpiComm& comm, std::uint64_t value, const WaitPolicy& policy) {
  std::array<std::int64_t, 1> smallest = {static_cast<std::int64_t>(value)};
  std::array<std::int64_t, 1> largest = smallest;
  all_reduce(comm, smallest, Reduction::min, policy);
  all_reduce(comm, largest, Reduction::max, policy);
  return smallest == largest;
}

void require_equal_digests(const MpiComm& comm,
                           std::uint64_t digest,
                           const std::string& problem,
                           const WaitPolicy& policy) {
  if (!equal_on_all_ranks(comm, digest, policy)) {
    throw AgreedError(kExitBadInput, comm.rank() == 0 ? problem : "");
  }
}

void all_ranks_ok(const MpiComm& comm,
                  const std::optional<LocalError>& local,
                  const WaitPolicy& policy) {
  std::int64_t exit_code = local ? local->exit_code : kExitDone;
  all_reduce(comm, {&exit_code, 1}, Reduction::max, policy);
  if (exit_code == kExitDone) {
    return;
  }
  // The first character tells a rank with a problem from one without.
  const auto texts = gather_texts(comm, local ? "!" + local->message : "", policy);
  std::vector<std::optional<std::string>> messages;
  messages.reserve(texts.size());
  for (const std::string& text : texts) {
    messages.push_back(text.empty() ? std::nullopt : std::optional(text.substr(1)));
  }
  throw AgreedError(static_cast<int>(exit_code), merge_messages(messages));
}

}  // namespace dovetail
