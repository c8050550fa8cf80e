// A table of what exchanges take on a machine, as `dovetail bench exchange --format json` prints
// it: `exchange: FILE.json` chooses by it, and `auto` where there is an `exchange_table`.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace dovetail {

inline constexpr int kExchangeTimesVersion = 2;

/// Where and for what exchanges were timed. "" and 0: not known, and then not compared.
struct ExchangeTimesSetting {
  std::string device;  ///< name of the card; "CPU"
  std::string nccl;    ///< version; "none" on the CPU
  std::string dtype;
  std::int64_t ranks = 0;           ///< that exchange with one another
  std::int64_t ranks_per_host = 0;  ///< of rank 0's host
  std::int64_t hidden = 0;
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
};

/// All calls of one exchange of a layer, from prepare to finish, medians of the slowest rank, with
/// balanced routing: what an exchange saves on the wire another lane may have to pay.
struct ExchangeTime {
  std::string exchange;
  bool is_graph = false;
  std::int64_t comm_sms = 0;    ///< 0 on the CPU
  std::int64_t tokens = 0;      ///< of a rank
  double us = 0;                ///< over all groups
  std::int64_t num_groups = 1;  ///< into which the experts of a rank were cut
};

struct ExchangeTimes {
  std::string file;  ///< where it was read, for messages
  ExchangeTimesSetting setting;
  std::vector<ExchangeTime> rows;
};

/// Ceilings and routings other than balanced are left out. Throws InputError that names the file
/// and the place ("rows[3].tokens"), also for rows that were measured with wrong results.
ExchangeTimes parse_exchange_times(std::string_view text, const std::string& file);

/// parse_exchange_times of a file.
ExchangeTimes read_exchange_times(const std::string& path);

/// Throws InputError that names each value in which the table's setting is not `run`'s, with both.
void check_exchange_setting(const ExchangeTimes& times, const ExchangeTimesSetting& run);

/// How a step uses an exchange.
struct ExchangeUse {
  std::int64_t tokens = 0;      ///< of a ubatch on the rank that has most
  std::int64_t comm_sms = 0;    ///< kAllSms: those of the most SMs that the table has are taken
  bool is_graph = false;        ///< rows measured in graphs are taken, else eager ones
  std::int64_t num_groups = 1;  ///< of experts: rows of so many, or of 1 where there are none
};

/// Microseconds of each exchange that was timed so: between two sizes on the line between them,
/// below the smallest as that, above the largest in proportion to the tokens. Throws InputError
/// where the table has nothing for this number of SMs or this mode.
std::map<std::string, double> exchange_us(const ExchangeTimes& times, const ExchangeUse& use);

}  // namespace dovetail
