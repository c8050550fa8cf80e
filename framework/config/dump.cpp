#include "framework/config/dump.hpp"

#include "framework/config/key_table.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

/// As write_number, without ".0".
std::string write_short(double value) {
  auto text = write_number(value);
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

}  // namespace

std::string describe_link(const std::optional<LinkConfig>& link, int expert_parallel) {
  return link && expert_parallel > 1 ? "emulated: " + write_short(link->latency_us) + " us, " +
                                           write_short(link->gbytes_per_s) + " GB/s"
                                     : "none";
}

std::string dump(const Experiment& experiment) {
  return "# Resolved experiment: every key is stated.\n" +
         keys_of<Experiment>().write_lines(experiment, "");
}

}  // namespace dovetail
