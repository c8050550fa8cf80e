#include "framework/base/working_folder.hpp"

#include <system_error>

namespace dovetail {

std::string working_folder_note(const std::filesystem::path& path) {
  if (path.is_absolute()) {
    return "";
  }
  std::error_code error;
  const auto folder = std::filesystem::current_path(error);
  return " (relative paths count from the working directory" +
         (error ? std::string() : ", " + folder.string()) + ")";
}

}  // namespace dovetail
