// The SMs of a GPU that the exchange of a step may take: how the number is written.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace dovetail {

/// In place of a number: nothing bounds the exchange, and compute leaves nothing to it.
inline constexpr int kAllSms = -1;

/// "8", or "all".
std::string describe_comm_sms(int comm_sms);

/// 8, or "all", as JSON; read_comm_sms reads it back.
nlohmann::ordered_json comm_sms_to_json(int comm_sms);

/// Throws InputError that begins with `place` for anything else than "all" and whole numbers from
/// 0, which is the CPU's.
int read_comm_sms(const nlohmann::json& value, const std::string& place);

}  // namespace dovetail
