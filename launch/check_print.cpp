#include "launch/check_print.hpp"

#include <algorithm>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/table.hpp"
#include "launch/check_work.hpp"

namespace dovetail {
namespace {

/// What comes before the tables: the first line of the run, and what is taken for granted.
std::string lead_of(const OrderedJson& report) {
  std::string text = report["header"].get<std::string>() + "\n";
  for (const auto& line : report["assumptions"]) {
    text += "note: " + line.get<std::string>() + "\n";
  }
  return text;
}

std::string join_numbers(const OrderedJson& numbers) {
  std::string text;
  for (const auto& number : numbers) {
    text += (text.empty() ? "" : " + ") + number.dump();
  }
  return text;
}

void print_grid(const OrderedJson& grid) {
  std::cout << "grid: " << counted(grid["world_size"].get<int>(), "rank") << " = "
            << counted(grid["replicas"].get<int>(), "replica") << " x " << grid["expert_parallel"]
            << " expert parallel\n\n";
  TextTable table({{"rank"},
                   {"dp_rank"},
                   {"ep_rank"},
                   {"experts"},
                   {"requests"},
                   {"tokens a step"},
                   {"context tokens"},
                   {"steps"}});
  for (const auto& rank : grid["ranks"]) {
    table.add_row(
        {rank["rank"].dump(),
         rank["dp_rank"].dump(),
         rank["ep_rank"].dump(),
         rank["experts"][0].dump() + ".." + std::to_string(rank["experts"][1].get<int>() - 1),
         rank["requests"].dump(),
         rank["tokens"].dump(),
         rank["context_tokens"].dump(),
         rank["steps"].dump()});
  }
  std::cout << table.to_string() << "\n";
}

/// Why `auto` took an exchange, a line for each.
void print_exchange_choices(const OrderedJson& policies) {
  std::set<std::string> said;
  for (const auto& policy : policies) {
    const auto reason = policy["exchange_reason"].get<std::string>();
    if (reason.starts_with("auto") && said.insert(reason).second) {
      std::cout << "exchange " << policy["exchange"].get<std::string>() << ": " << reason << "\n";
    }
  }
}

/// What steps run of a policy that decides before each of them, or that is kept from its ubatches.
void print_planned_steps(const OrderedJson& policies, const std::string& place = "") {
  for (const auto& policy : policies) {
    for (const auto& steps : policy["steps"]) {
      if (steps["reason"] != "none" || !steps["plain_ms"].is_null()) {
        std::cout << place << "policy " << policy["name"].get<std::string>() << ": "
                  << steps["text"].get<std::string>() << "\n";
      }
    }
  }
}

void print_policies(const OrderedJson& policies) {
  std::vector<PolicyLink> links;
  for (const auto& policy : policies) {
    links.push_back({policy["name"], policy["link"]});
  }
  std::cout << link_note(links);
  TextTable table({{"policy", TextTable::Align::left},
                   {"schedule", TextTable::Align::left},
                   {"ubatches"},
                   {"split", TextTable::Align::left},
                   {"ops"},
                   {"schedule check", TextTable::Align::left},
                   {"exchange", TextTable::Align::left},
                   {"tokens of ubatches, by rank", TextTable::Align::left}});
  for (const auto& policy : policies) {
    std::string splits;
    for (const auto& rank : policy["tokens_of_ubatches_by_rank"]) {
      splits += (splits.empty() ? "" : " | ") + join_numbers(rank);
    }
    table.add_row({policy["name"],
                   policy["schedule"],
                   policy["ubatches"].dump(),
                   policy["ubatches"] == 1 ? "-" : policy["split"].get<std::string>(),
                   policy["ops"].dump(),
                   policy["schedule_check"],
                   policy["exchange"],
                   splits});
  }
  std::cout << table.to_string();
  print_exchange_choices(policies);
  print_planned_steps(policies);
  std::cout << "\n";
}

/// What the memory is compared with, where `shown` is not it already; then a line for each policy,
/// or (`shortages_only`) for those that do not fit.
void print_fit(const OrderedJson& fit,
               std::string& shown,
               bool shortages_only = false,
               const std::string& place = "") {
  std::string lead = "memory of " + fit["of"].get<std::string>() + ": ";
  if (fit["bytes"].is_null()) {
    lead += "not known here";
    lead += fit["of"] == "each GPU" ? "; --gpu-memory-gib N says what fits into N GiB\n" : "\n";
  } else {
    lead += format_fixed(fit["bytes"].get<double>() / (1LL << 30), 2) + " GiB (" +
            fit["source"].get<std::string>() + ")\n";
  }
  if (lead != shown) {
    std::cout << lead;
    shown = lead;
  }
  for (const auto& policy : fit["policies"]) {
    if (!policy["fits"].get<bool>()) {
      std::cout << "warning: " << place << policy["text"].get<std::string>() << "\n";
    } else if (!shortages_only) {
      std::cout << policy["text"].get<std::string>() << "\n";
    }
  }
}

void print_memory(const OrderedJson& report) {
  const auto& memory = report["memory_bytes_by_rank"];
  std::vector<TextTable::Column> columns = {{"memory [MiB]", TextTable::Align::left}};
  for (std::size_t rank = 0; rank < memory.size(); ++rank) {
    columns.push_back({"rank " + std::to_string(rank)});
  }
  TextTable table(columns);
  for (const auto& [part, unused] : memory[0].items()) {
    std::vector<std::string> row = {part};
    for (const auto& rank : memory) {
      row.push_back(format_fixed(rank[part].get<double>() / (1 << 20), 2));
    }
    table.add_row(row);
  }
  std::cout << table.to_string();
  std::string shown;
  print_fit(report["memory_fit"], shown);
  std::cout << "not counted: " << report["memory_leaves_out"].get<std::string>() << "\n";
}

std::int64_t largest(const OrderedJson& list, const char* key) {
  std::int64_t most = 0;
  for (const auto& one : list) {
    most = std::max(most, one.at(key).get<std::int64_t>());
  }
  return most;
}

}  // namespace

void print_check(const OrderedJson& report) {
  std::cout << lead_of(report);
  print_grid(report["grid"]);
  print_policies(report["policies"]);
  print_work(report["work_by_phase"]);
  print_memory(report);
}

void print_points(const Sweep& sweep, const OrderedJson& points) {
  std::string last;
  for (const auto& point : points) {
    const auto lead = lead_of(point["check"]);
    if (lead != last) {
      std::cout << "from point " << point["point"] << " on:\n" << lead;
    }
    last = lead;
  }
  std::vector<TextTable::Column> columns = {{"point"}};
  for (const auto& axis : sweep.axes()) {
    columns.push_back({axis.key});
  }
  columns.push_back({"tokens"});
  columns.push_back({"memory [MiB]"});
  columns.push_back({"policies", TextTable::Align::left});
  TextTable table(columns);
  std::vector<PolicyLink> links;
  std::set<std::string> measured_once;
  for (const auto& point : points) {
    std::vector<std::string> row = {point["point"].dump()};
    for (const auto& [key, value] : point["values"].items()) {
      row.push_back(value.get<std::string>());
    }
    const auto& check = point["check"];
    row.push_back(std::to_string(largest(check["grid"]["ranks"], "tokens")));
    const auto bytes = static_cast<double>(largest(check["memory_bytes_by_rank"], "total"));
    row.push_back(format_fixed(bytes / (1 << 20), 2));
    std::string names;
    for (const auto& policy : check["policies"]) {
      const auto name = policy["name"].get<std::string>();
      names += (names.empty() ? "" : ", ") + name;
      if (const auto& earlier = point["measured_in_point"]; earlier.contains(name)) {
        names += " (point " + earlier[name].dump() + ")";
        measured_once.insert(name);
      }
      links.push_back({"point " + point["point"].dump() + ", " + name, policy["link"]});
    }
    row.push_back(names);
    table.add_row(row);
  }
  std::cout << link_note(links) << counted(std::ssize(points), "point")
            << "; tokens and memory of the rank that has most\n"
            << table.to_string();
  if (!measured_once.empty()) {
    std::cout << "(point N): " << join_names(measured_once)
              << " is measured once, in point N, and taken from there (sweep_unchanged: "
                 "measure_once; measure_again measures it in every point)\n";
  }
  std::cout << "memory does not count "
            << points[0]["check"]["memory_leaves_out"].get<std::string>() << "\n";
  std::string shown;
  for (const auto& point : points) {
    const auto place = "point " + point["point"].dump() + ", ";
    print_fit(point["check"]["memory_fit"], shown, true, place);
  }
  for (const auto& point : points) {
    print_planned_steps(point["check"]["policies"], "point " + point["point"].dump() + ", ");
  }
}

}  // namespace dovetail
