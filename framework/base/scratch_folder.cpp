#include "framework/base/scratch_folder.hpp"

#include <cstdlib>
#include <string>
#include <system_error>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"

namespace dovetail {

ScratchFolder::ScratchFolder(const std::filesystem::path& parent) {
  const auto base = parent.empty() ? temporary_folder() : parent;
  std::string name = (base / "dovetail-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw RunError(name + ": cannot make a temporary folder");
  }
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace dovetail
