// The exchange of one layer as `dovetail bench exchange` makes it: every call for every group of
// experts, and what a clock reads between them.
#pragma once

#include <array>
#include <functional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"

namespace dovetail {

enum class BenchCall { prepare, dispatch, arrange, reduce, combine, finish };

inline constexpr std::size_t kNumBenchCalls = 6;

/// One call for one group: what lies between two marks of a pass.
struct BenchSpan {
  BenchCall call = BenchCall::prepare;
  int group = 0;

  friend bool operator==(const BenchSpan&, const BenchSpan&) = default;
};

/// The calls of a pass, in order: all dispatches, then the groups' arrange and reduce in turn, then
/// all combines.
std::vector<BenchSpan> bench_spans(int num_groups);

/// What stands in for the experts.
enum class BenchExperts {
  none,    ///< their rows are taken for what they return, which costs nothing: for clocks. Where
           ///< experts are cut and groups share the memory of their rows, the sums are wrong
  factors  ///< they multiply their rows by write_bench_factors
};

/// Passes over one ubatch. `exchange` and `shape` outlive it.
class BenchPass {
 public:
  BenchPass(Exchange& exchange, const ExchangeShape& shape, int num_groups);

  /// finish's output. `tokens` without num_groups; `mark` is called after each of bench_spans, and
  /// may be empty. On the comm and the compute lane at once: one thread, one stream. Collective.
  /// `factors` can be captured once such a pass over as many tokens was made.
  at::Tensor run(const RoutedTokens& tokens,
                 BenchExperts experts,
                 const std::function<void()>& mark = {});

 private:
  /// Memory of the experts of one group, which is there from pass to pass.
  struct Multiplied {
    at::Tensor positions;  ///< int32 [R]: 0, 1, ...
    at::Tensor experts;    ///< int32 [R]
    at::Tensor factors;    ///< [R, 1], of the rows' type
    at::Tensor rows;       ///< [R, hidden]
  };

  /// Without memory of its own, so that it can be captured.
  const at::Tensor& multiply(int group, const ExpertRows& arranged);

  Exchange& exchange_;
  const ExchangeShape& shape_;
  const int num_groups_;
  const std::vector<BenchSpan> spans_;
  std::vector<Multiplied> multiplied_;  ///< by group
};

/// What the calls of a pass take, microseconds.
struct BenchTimes {
  std::array<double, kNumBenchCalls> calls = {};  ///< by BenchCall, over all groups
  double first_dispatch = 0;                      ///< until the first group's experts can begin
  double first_combine = 0;
};

/// Adds up the spans of passes.
class BenchClock {
 public:
  explicit BenchClock(int num_groups);

  /// `gaps_us`: of whole passes, in the order of bench_spans (ContractError otherwise).
  void add(std::span<const double> gaps_us);

  /// Over all passes; there is one.
  BenchTimes medians() const;

 private:
  std::vector<BenchSpan> spans_;
  std::vector<BenchTimes> passes_;
};

}  // namespace dovetail
