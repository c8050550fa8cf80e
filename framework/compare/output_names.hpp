// What the name of a recorded output says of it: hidden, logits, logits_all, layer_<n>, key_<n>,
// value_<n>, latent_<n>.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dovetail {

/// Where a rank file holds the output.
std::string output_path(const std::string& name);

/// Whether the output is of the KV cache: a layer makes keys and values before its routing.
bool is_of_cache(const std::string& name);

/// n of "layer_<n>", "key_<n>", "value_<n>" and "latent_<n>"; -1 for any other name.
std::int64_t layer_of(const std::string& name);

/// Rows of logits are the requests of each step, rows of all other outputs tokens.
bool has_row_per_request(const std::string& name);

/// Sorts the outputs of layers by layer, and behind them what follows the last layer.
void sort_by_data_flow(std::vector<std::string>& names);

}  // namespace dovetail
