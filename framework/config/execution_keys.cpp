// The values of `execution` that are no plain ones.
#include "framework/config/execution_config.hpp"
#include "framework/config/map_reader.hpp"
#include "framework/config/write_value.hpp"

namespace dovetail {

void ExecutionConfig::read_comm_sms(const MapReader& map, ExecutionConfig& execution) {
  execution.comm_sms = map.at("comm_sms").as_auto_or_int(1, 1024);
}

std::string ExecutionConfig::write_comm_sms(const ExecutionConfig& execution) {
  return execution.comm_sms ? write_value(*execution.comm_sms) : "auto";
}

}  // namespace dovetail
