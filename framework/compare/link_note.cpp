#include "framework/compare/link_note.hpp"

#include <algorithm>

#include "framework/record/schema.hpp"

namespace dovetail {

std::string link_note(const std::vector<PolicyLink>& links) {
  const bool all_equal = std::all_of(links.begin(), links.end(), [&](const PolicyLink& one) {
    return one.link == links.front().link;
  });
  std::string text;
  for (const PolicyLink& one : links) {
    if (one.link != kNoLink) {
      text += "Link " + (all_equal ? "" : "of " + one.policy + " ") + one.link + "\n";
    }
    if (all_equal) {
      break;
    }
  }
  return text;
}

}  // namespace dovetail
