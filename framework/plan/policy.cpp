#include "framework/plan/policy.hpp"

#include <string>

#include "framework/base/text.hpp"
#include "framework/plan/policies/dual_batch.hpp"
#include "framework/plan/policies/expert_groups.hpp"
#include "framework/plan/policies/sequential.hpp"
#include "framework/plan/policies/shared_expert.hpp"
#include "framework/plan/policies/staged.hpp"

namespace dovetail {
namespace {

Registry<Policy> make_policies() {
  Registry<Policy> registry("policy");
  registry.add("sequential",
               "one ubatch, every phase in order on the compute lane: the baseline",
               {make_sequential, 1, 1, 1});
  registry.add("shared_expert",
               "one ubatch, the exchange on the comm lane, shared experts beside the dispatch",
               {make_shared_expert, 1, 1, 1});
  registry.add("dual_batch",
               "2 to 8 ubatches that hand over behind each dispatch and each combine",
               {make_dual_batch, 2, kMaxUbatches, 2});
  registry.add("expert_groups",
               "1 to 8 ubatches; the experts of a rank in groups, the exchange of one group beside "
               "the experts of another",
               {make_expert_groups, 1, kMaxUbatches, 1, kMaxGroups, 2});
  registry.add("staged",
               "1 to 8 ubatches that hand over where stage lists cut a layer, each ubatch `delta` "
               "stages behind the one before; presets: prefill, decode",
               {make_staged, 1, kMaxUbatches, 2, kMaxGroups});
  registry.add("auto",
               "its candidate where a table of step times says that it is faster, else sequential",
               {nullptr, 2, kMaxUbatches, 2});
  return registry;
}

}  // namespace

const Registry<Policy>& policies() {
  static const Registry<Policy> registry = make_policies();
  return registry;
}

void check_num_ubatches(const std::string& policy, int num_ubatches, int min, int max) {
  if (num_ubatches >= min && num_ubatches <= max) {
    return;
  }
  throw InputError("policy " + policy + " with " + counted(num_ubatches, "ubatch") + "; allowed: " +
                   std::to_string(min) + (min == max ? "" : " to " + std::to_string(max)));
}

}  // namespace dovetail
