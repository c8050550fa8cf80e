// The exchanges by name: what a configuration may ask for, and the choice of `auto`. All of it is
// read from the table (exchange_table.hpp).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/exchange/exchange_setting.hpp"

namespace dovetail {

/// All back ends, with where each one runs; for people.
std::vector<Description> describe_exchanges();

struct ExchangeChoice {
  std::string name;
  std::string reason;  ///< one line for people
};

/// Resolves "auto": on GPUs one that shares memory, unless `gpus_apart` says why the GPUs of an ep
/// group cannot; any other name must be a back end that is built for host ranks or, with
/// `on_gpu`, for GPUs (InputError otherwise; in a build without CUDA, too, GPUs can be planned
/// for).
ExchangeChoice choose_exchange(const std::string& requested,
                               bool on_gpu = false,
                               const std::string& gpus_apart = "");

/// The fastest by `us`, microseconds by name, of those that are built for such a device, can be
/// captured up to `graph`, can cut a rank's experts into `num_groups` and, where `gpus_apart` says
/// that GPUs cannot, share no memory. `what` was measured, for the reason. Throws InputError where
/// there is none.
ExchangeChoice fastest_exchange(const std::map<std::string, double>& us,
                                const std::string& what,
                                bool on_gpu,
                                GraphMode graph,
                                int num_groups,
                                const std::string& gpus_apart);

// Below: `kind` is resolved and built for that kind of device (InputError otherwise).

/// See ExchangeSide::make.
std::unique_ptr<Exchange> make_exchange(const std::string& kind,
                                        bool on_gpu,
                                        const ExchangeShape& shape,
                                        const ExchangeSetting& setting);

/// Throws InputError for a model whose tokens have more experts than it can hold.
void check_top_k(const std::string& kind, bool on_gpu, int top_k);

/// Throws InputError for more groups of experts than it can cut a rank's experts into, which has
/// `experts_per_rank`; 0 = the model has none.
void check_groups(const std::string& kind, bool on_gpu, int num_groups, int experts_per_rank);

/// How much of a step on GPUs can be captured.
GraphMode max_graph_mode(const std::string& kind);

/// See ExchangeSide::buffer_bytes.
std::int64_t exchange_buffer_bytes(const std::string& kind,
                                   bool on_gpu,
                                   const ExchangeShape& shape,
                                   std::int64_t max_tokens,
                                   double padded_capacity);

/// Bytes that what the experts of the groups 0 to `last_group` of a ubatch return takes, in the
/// worst routing: on host ranks tensors of the rows that are there, on GPUs one for each group, of
/// the rows that could be.
std::int64_t expert_output_bytes(const std::string& kind,
                                 bool on_gpu,
                                 const ExchangeShape& shape,
                                 std::int64_t max_tokens,
                                 double padded_capacity,
                                 int num_groups,
                                 int last_group);

}  // namespace dovetail
