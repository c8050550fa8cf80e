#include "framework/compare/matched_rows.hpp"

#include <map>
#include <optional>
#include <utility>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

using Key = std::pair<std::int64_t, std::int64_t>;  // request, position

struct Entry {
  RowPlace place;
  std::int64_t input_id = 0;
};

using Rows = std::map<Key, Entry>;

/// Counts problems of one kind and keeps the first.
struct Problems {
  std::string first;
  std::int64_t count = 0;

  void add(const std::string& text) {
    first = count == 0 ? text : first;
    ++count;
  }

  void append_to(std::vector<std::string>& all) const {
    if (count > 0) {
      all.push_back(first + (count > 1 ? " (and " + std::to_string(count - 1) + " more)" : ""));
    }
  }
};

std::string name_of(const Key& key) {
  return MatchedRow{key.first, key.second, {}, {}}.describe();
}

void insert(Rows& rows, const Key& key, const Entry& entry, Problems& duplicates) {
  const auto [old, is_new] = rows.try_emplace(key, entry);
  if (!is_new) {
    duplicates.add(name_of(key) + " is there twice: rank " +
                   std::to_string(old->second.place.rank) + " row " +
                   std::to_string(old->second.place.row) + " and rank " +
                   std::to_string(entry.place.rank) + " row " + std::to_string(entry.place.row));
  }
}

void add_tokens(const RankFile& file, Rows& tokens, Problems& duplicates) {
  const auto ids = file.read<std::int64_t>(path::kInputIds);
  const auto requests = file.read<std::int64_t>(path::kRequestId);
  const auto positions = file.read<std::int64_t>(path::kPositions);
  if (requests.shape != ids.shape || positions.shape != ids.shape) {
    throw InputError(file.path().string() + ": /input: input_ids " + hdf5::to_string(ids.shape) +
                     ", request_id " + hdf5::to_string(requests.shape) + ", positions " +
                     hdf5::to_string(positions.shape) + " are not of one length");
  }
  for (std::size_t row = 0; row < ids.values.size(); ++row) {
    insert(tokens,
           {requests.values[row], positions.values[row]},
           {{file.rank(), static_cast<std::int64_t>(row)}, ids.values[row]},
           duplicates);
  }
}

/// Of a rank without contexts, and of a file without their routing, nothing.
void add_contexts(const RankFile& file, Rows& contexts, Problems& duplicates) {
  if (!file.has(path::kContextRequestId)) {
    return;
  }
  const auto requests = file.read<std::int64_t>(path::kContextRequestId);
  const auto positions = file.read<std::int64_t>(path::kContextPositions);
  for (std::size_t row = 0; row < requests.values.size(); ++row) {
    insert(contexts,
           {requests.values[row], positions.values.at(row)},
           {{file.rank(), static_cast<std::int64_t>(row)}, 0},
           duplicates);
  }
}

struct Folder {
  Rows tokens;
  Rows contexts;
  Rows requests;
};

Folder read_folder(const PolicyFolder& folder, std::vector<std::string>& problems) {
  Folder result;
  Problems duplicates;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    add_tokens(file, result.tokens, duplicates);
    add_contexts(file, result.contexts, duplicates);
    const auto requests = file.read<std::int64_t>(path::kRequests);
    const auto positions = file.read<std::int64_t>(path::kRequestPosition);
    for (std::size_t row = 0; row < requests.values.size(); ++row) {
      insert(result.requests,
             {requests.values[row], positions.values.at(row)},
             {{rank, static_cast<std::int64_t>(row)}, 0},
             duplicates);
    }
  }
  duplicates.first = folder.path().string() + ": " + duplicates.first;
  duplicates.append_to(problems);
  return result;
}

std::vector<MatchedRow> match(const Rows& policy,
                              const Rows& baseline,
                              std::vector<std::string>& problems) {
  std::vector<MatchedRow> matched;
  Problems missing;
  Problems extra;
  Problems other_ids;
  for (const auto& [key, entry] : baseline) {
    const auto own = policy.find(key);
    if (own == policy.end()) {
      missing.add("inputs differ: " + name_of(key) + " of the baseline (rank " +
                  std::to_string(entry.place.rank) + ") is not in the policy");
      continue;
    }
    if (own->second.input_id != entry.input_id) {
      other_ids.add("inputs differ: " + name_of(key) + " (rank " +
                    std::to_string(own->second.place.rank) + ") has input id " +
                    std::to_string(own->second.input_id) + " against " +
                    std::to_string(entry.input_id));
    }
    matched.push_back({key.first, key.second, own->second.place, entry.place});
  }
  for (const auto& [key, entry] : policy) {
    if (baseline.find(key) == baseline.end()) {
      extra.add("inputs differ: " + name_of(key) + " of the policy (rank " +
                std::to_string(entry.place.rank) + ") is not in the baseline");
    }
  }
  for (const Problems& kind : {missing, extra, other_ids}) {
    kind.append_to(problems);
  }
  return matched;
}

}  // namespace

std::string MatchedRow::describe() const {
  return "request " + std::to_string(request) + ", position " + std::to_string(position);
}

MatchedRows match_rows(const PolicyFolder& policy, const PolicyFolder& baseline) {
  MatchedRows rows;
  const Folder own = read_folder(policy, rows.problems);
  const Folder other = read_folder(baseline, rows.problems);
  rows.tokens = match(own.tokens, other.tokens, rows.problems);
  rows.contexts = match(own.contexts, other.contexts, rows.context_problems);
  rows.requests = match(own.requests, other.requests, rows.problems);
  return rows;
}

}  // namespace dovetail
