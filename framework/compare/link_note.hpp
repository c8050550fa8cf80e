// The line above every table of times that were taken over an emulated link.
#pragma once

#include <string>
#include <vector>

namespace dovetail {

struct PolicyLink {
  std::string policy;
  std::string link;  ///< "none", or how it is emulated (describe_link)
};

/// "Link emulated: 20 us, 1 GB/s" with a line end, or, where the policies ran over different links,
/// a line each for the emulated ones; empty where none is emulated.
std::string link_note(const std::vector<PolicyLink>& links);

}  // namespace dovetail
