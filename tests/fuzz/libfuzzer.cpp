// A fuzz target under libFuzzer. `--write-seeds FOLDER` writes the inputs to start from, and
// `--write-tokens FILE` the dictionary, for tests/fuzz.sh.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"

// NOLINTBEGIN(readability-identifier-naming): libFuzzer's names
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  if (*count == 4 && std::string((*arguments)[1]) == "--write-seeds") {
    dovetail::fuzz::write_seeds((*arguments)[2], (*arguments)[3]);
    std::exit(0);  // NOLINT(concurrency-mt-unsafe): one thread
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    dovetail::fuzz::target().accepts({reinterpret_cast<const char*>(bytes), size});
  } catch (const dovetail::fuzz::BrokenContract& broken) {
    std::cerr << broken.what() << std::endl;
    std::abort();
  }
  return 0;
}

// NOLINTEND(readability-identifier-naming)
