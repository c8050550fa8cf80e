// A row of the table of what a rank file records (schema_table.hpp): what it says of a dataset or
// an attribute.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "framework/base/types.hpp"
#include "framework/record/hdf5.hpp"

namespace dovetail {

struct RankFileSpec;

/// What a length of a dataset counts. Datasets of one file that share a dimension have the same
/// length there.
enum class Dimension {
  iteration,  ///< timed
  step,       ///< of an iteration
  round,
  clock_point,    ///< before and after each round, and the profiled iterations
  clock_column,   ///< of /timing/clock
  column,         ///< of /timing/decision
  before_column,  ///< of /timing/before_ns
  variant,
  hash_column,    ///< of /hash
  profiled_step,  ///< profiled iterations x steps
  op,             ///< of the longest schedule
  pass,           ///< the first of ProfilePass
  further_pass,   ///< the others
  start_end,
  token,        ///< of all steps of an iteration
  request_row,  ///< requests of all steps of an iteration
  axis,         ///< temporal, height, width
  layer,        ///< of the model (stage)
  expert,       ///< of the rank
  reason,       ///< EagerReason
  route_layer,  ///< whose routing is recorded
  top_k,
  route_expert,   ///< experts of a layer over all ranks
  context_token,  ///< of all contexts whose routing is recorded
  hidden,         ///< of outputs, whose shapes OutputSpec gives
  vocabulary,     ///< likewise
  kv_width,       ///< likewise
};

template <>
struct EnumNames<Dimension> {
  static constexpr std::array<std::string_view, 27> kTable = {"iteration",
                                                              "step",
                                                              "round",
                                                              "point",
                                                              "column",
                                                              "column",
                                                              "column",
                                                              "variant",
                                                              "column",
                                                              "profiled step",
                                                              "op",
                                                              "pass",
                                                              "pass",
                                                              "start/end",
                                                              "token",
                                                              "request of each step",
                                                              "axis",
                                                              "layer",
                                                              "expert of the rank",
                                                              "reason",
                                                              "layer",
                                                              "k",
                                                              "expert",
                                                              "token of the contexts",
                                                              "hidden",
                                                              "vocabulary",
                                                              "kv_heads x head_dim"};
};

/// Up to three dimensions, slowest first; none = a scalar.
class Dimensions {
 public:
  constexpr Dimensions(std::initializer_list<Dimension> dimensions) : count_(dimensions.size()) {
    std::size_t i = 0;
    for (const Dimension dimension : dimensions) {
      all_.at(i++) = dimension;
    }
  }

  constexpr std::size_t size() const { return count_; }

  constexpr const Dimension* begin() const { return all_.data(); }

  constexpr const Dimension* end() const { return all_.data() + count_; }

 private:
  std::array<Dimension, 3> all_{};
  std::size_t count_;
};

/// What an element of a dataset is. `own`: each tensor has its own dtype.
enum class Element { int64, int32, float32, own, text, table };

template <>
struct EnumNames<Element> {
  static constexpr std::array<std::string_view, 6> kTable = {
      "int64", "int32", "float32", "own dtype", "text", "table"};
};

/// Which rank files have a dataset. Those of one kind other than `always` are all there or none is.
enum class Presence {
  always,
  with_mrope_positions,
  with_output,
  with_routing,
  with_router_scores,
  with_given_routing,
  with_context_routing,
  with_context_router_scores,
  with_given_context_routing
};

/// How summary.json joins a scalar over the ranks, under its own name in the section of its group.
enum class OverRanks { left_out, first, largest, sum };

/// A dataset of a rank file. What is not written holds -1 (integers) or NaN.
struct DatasetRow {
  std::string_view path;
  Element element;
  Dimensions shape;
  std::string_view unit;     ///< empty: has none
  std::int64_t since;        ///< schema version that brought it
  std::string_view meaning;  ///< for people: sentences in Markdown
  OverRanks over_ranks = OverRanks::left_out;
  Presence presence = Presence::always;

  constexpr bool is_scalar() const { return shape.size() == 0 && element == Element::int64; }
};

/// What a value of an attribute is. `fixed_text` is stored in place, so that it can be changed.
enum class AttributeKind { integer, text, fixed_text };

template <>
struct EnumNames<AttributeKind> {
  static constexpr std::array<std::string_view, 3> kTable = {"int64", "text", "text"};
};

/// An attribute of a rank file.
struct AttributeRow {
  std::string_view object;  ///< "/", or the path of a group or a dataset
  std::string_view name;
  AttributeKind kind;
  std::string_view meaning;  ///< for people: sentences in Markdown
  /// What a new file holds; nullptr: given in RankFileSpec::attributes, or of a schedule.
  hdf5::AttributeValue (*initial)(const RankFileSpec& spec) = nullptr;
  bool required = true;      ///< of every file that is read
  std::size_t capacity = 0;  ///< bytes of a fixed text
};

}  // namespace dovetail
