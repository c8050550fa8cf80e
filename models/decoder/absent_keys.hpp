// What a config.json means that does not have a key: the defaults of the configuration classes of
// transformers 5.17, which differ from architecture to architecture.
#pragma once

#include <span>
#include <string_view>

#include "models/hf_config.hpp"

namespace dovetail {

/// Of a registered architecture. Keys without which a file says too little of a model are not
/// among them and are refused where they are missing, although the classes have values of one
/// published model for them: sizes, numbers of layers, heads, experts and choices, epsilon and
/// theta, and norm_topk_prob of qwen3_moe, whose default no published model has.
std::span<const AbsentKey> absent_keys(std::string_view architecture);

}  // namespace dovetail
