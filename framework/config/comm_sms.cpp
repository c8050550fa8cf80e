#include "framework/config/comm_sms.hpp"

#include <nlohmann/json.hpp>

#include "framework/base/json_reader.hpp"

namespace dovetail {
namespace {

constexpr const char* kAll = "all";
constexpr int kMostSms = 65'536;

}  // namespace

std::string describe_comm_sms(int comm_sms) {
  return comm_sms == kAllSms ? kAll : std::to_string(comm_sms);
}

nlohmann::ordered_json comm_sms_to_json(int comm_sms) {
  return comm_sms == kAllSms ? nlohmann::ordered_json(kAll) : nlohmann::ordered_json(comm_sms);
}

int read_comm_sms(const nlohmann::json& value, const std::string& place) {
  return value == kAll ? kAllSms : static_cast<int>(read_json_int(value, place, 0, kMostSms));
}

}  // namespace dovetail
