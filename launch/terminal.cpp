#include "launch/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

namespace dovetail {

std::size_t terminal_width() {
  winsize size{};
  const bool is_terminal =
      isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
  return is_terminal ? size.ws_col : 0;
}

}  // namespace dovetail
