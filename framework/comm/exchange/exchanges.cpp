#include "framework/comm/exchange/exchanges.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"
#include "framework/comm/exchange/exchange_table.hpp"

namespace dovetail {
namespace {

const std::optional<ExchangeSide>& side_of(const ExchangeRow& row, bool on_gpu) {
  return on_gpu ? row.on_gpu : row.on_host;
}

const ExchangeRow& find_row(const std::string& name) {
  if (const auto* row = find_exchange(name)) {
    return *row;
  }
  std::vector<std::string> known;
  for (const auto& row : exchange_table()) {
    known.push_back(row.name);
  }
  throw InputError("unknown exchange '" + name + "'; known: " + join_names(known));
}

[[noreturn]] void refuse(const ExchangeRow& asked, bool on_gpu) {
  std::vector<std::string> allowed;
  for (const auto& row : exchange_table()) {
    if (!asked.is_built() && row.is_built()) {
      allowed.push_back(row.name + (row.on_host ? "" : " (GPUs only)"));
    } else if (asked.is_built() && side_of(row, on_gpu)) {
      allowed.push_back(row.name);
    }
  }
  const auto text = "exchange '" + asked.name + "' ";
  const auto names = join_names(allowed) + ", and auto";
  if (!asked.is_built()) {
    throw InputError(text + "is not built yet; built: " + names);
  }
  throw InputError(text + (on_gpu ? "needs host ranks; on GPUs: " : "needs GPUs; on host ranks: ") +
                   names);
}

const ExchangeRow& find_built(const std::string& name, bool on_gpu) {
  const auto& row = find_row(name);
  if (!side_of(row, on_gpu)) {
    refuse(row, on_gpu);
  }
  return row;
}

const std::string& reason_for_auto(const ExchangeRow& row, bool on_gpu) {
  return on_gpu ? row.auto_on_gpu : row.auto_on_host;
}

std::string describe_devices(const ExchangeRow& row) {
  if (!row.is_built()) {
    return "not built yet";
  }
  const auto on_gpu = "graphs: " + std::string(to_string(row.max_graph));
  return !row.on_gpu ? "CPU only" : !row.on_host ? "GPU only, " + on_gpu : "CPU; GPU, " + on_gpu;
}

/// Names of those that take so many.
std::string takers_of_groups(bool on_gpu, int num_groups) {
  std::vector<std::string> names;
  for (const auto& row : exchange_table()) {
    if (side_of(row, on_gpu) && side_of(row, on_gpu)->max_groups >= num_groups) {
      names.push_back(row.name);
    }
  }
  return join_names(names);
}

}  // namespace

std::vector<Description> describe_exchanges() {
  std::vector<Description> all;
  for (const auto& row : exchange_table()) {
    all.push_back({row.name, row.summary + " (" + describe_devices(row) + ")"});
  }
  return all;
}

ExchangeChoice choose_exchange(const std::string& requested,
                               bool on_gpu,
                               const std::string& gpus_apart) {
  if (requested != "auto") {
    return {.name = find_built(requested, on_gpu).name, .reason = "as configured"};
  }
  const ExchangeRow* chosen = nullptr;
  std::string left_out;
  for (const auto& row : exchange_table()) {
    if (reason_for_auto(row, on_gpu).empty()) {
      continue;
    }
    if (on_gpu && row.shares_memory && !gpus_apart.empty()) {
      left_out = "not " + row.name + ", because " + gpus_apart + "; ";
    } else {
      chosen = &row;
    }
  }
  DOVETAIL_CHECK(chosen != nullptr, "the table of exchanges has no row for auto");
  return {.name = chosen->name, .reason = "auto: " + left_out + reason_for_auto(*chosen, on_gpu)};
}

ExchangeChoice fastest_exchange(const std::map<std::string, double>& us,
                                const std::string& what,
                                bool on_gpu,
                                GraphMode graph,
                                int num_groups,
                                const std::string& gpus_apart) {
  std::vector<std::pair<double, std::string>> fitting;
  std::vector<std::string> measured;
  for (const auto& [name, time] : us) {
    measured.push_back(name);
    const auto* row = find_exchange(name);
    const bool fits =
        row != nullptr && side_of(*row, on_gpu) &&
        side_of(*row, on_gpu)->max_groups >= num_groups &&
        (!on_gpu || (row->max_graph >= graph && (!row->shares_memory || gpus_apart.empty())));
    if (fits) {
      fitting.emplace_back(time, name);
    }
  }
  if (fitting.empty()) {
    throw InputError(what + ": no exchange that can run here" +
                     (gpus_apart.empty() ? "" : " (" + gpus_apart + ")") +
                     "; measured: " + join_names(measured));
  }
  std::sort(fitting.begin(), fitting.end());
  const auto text = [](const auto& one) {
    return one.second + " " + std::to_string(std::llround(one.first)) + " us";
  };
  std::vector<std::string> slower;
  std::transform(std::next(fitting.begin()), fitting.end(), std::back_inserter(slower), text);
  return {.name = fitting.front().second,
          .reason = "auto by " + what + ": " + text(fitting.front()) +
                    (slower.empty() ? "" : "; " + join_names(slower))};
}

std::unique_ptr<Exchange> make_exchange(const std::string& kind,
                                        bool on_gpu,
                                        const ExchangeShape& shape,
                                        const ExchangeSetting& setting) {
  return side_of(find_built(kind, on_gpu), on_gpu)->make(shape, setting);
}

void check_top_k(const std::string& kind, bool on_gpu, int top_k) {
  const int most = side_of(find_built(kind, on_gpu), on_gpu)->max_top_k;
  if (top_k > most) {
    throw InputError("exchange '" + kind + "' on " + (on_gpu ? "GPUs" : "host ranks") +
                     " takes at most " + counted(most, "expert") + " a token; the model has " +
                     std::to_string(top_k));
  }
}

void check_groups(const std::string& kind, bool on_gpu, int num_groups, int experts_per_rank) {
  const int most = side_of(find_built(kind, on_gpu), on_gpu)->max_groups;
  const auto groups = counted(num_groups, "group") + " of experts";
  if (num_groups > most) {
    throw InputError(groups + ": exchange '" + kind + "' on " + (on_gpu ? "GPUs" : "host ranks") +
                     (most > 1 ? " takes at most " + std::to_string(most)
                               : " takes the experts of a rank as one; allowed: " +
                                     takers_of_groups(on_gpu, num_groups)));
  }
  if (experts_per_rank > 0 && num_groups > experts_per_rank) {
    throw InputError(groups + ": a rank has " + counted(experts_per_rank, "expert") +
                     "; allowed: at most one group an expert");
  }
}

GraphMode max_graph_mode(const std::string& kind) {
  return find_built(kind, /*on_gpu=*/true).max_graph;
}

std::int64_t exchange_buffer_bytes(const std::string& kind,
                                   bool on_gpu,
                                   const ExchangeShape& shape,
                                   std::int64_t max_tokens,
                                   double padded_capacity) {
  return side_of(find_built(kind, on_gpu), on_gpu)
      ->buffer_bytes(shape, max_tokens, padded_capacity);
}

std::int64_t expert_output_bytes(const std::string& kind,
                                 bool on_gpu,
                                 const ExchangeShape& shape,
                                 std::int64_t max_tokens,
                                 double padded_capacity,
                                 int num_groups,
                                 int last_group) {
  return shape.row_bytes() *
         side_of(find_built(kind, on_gpu), on_gpu)
             ->output_rows(shape, max_tokens, padded_capacity, num_groups, last_group);
}

}  // namespace dovetail
