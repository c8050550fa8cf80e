// A rank that records as fast as it can and says after each step that it is written, for the test
// that kills it: crash_writer MODE FILE ITERATIONS. Waits for one byte on stdin before it begins.
// Prints int64 numbers: -1 when the file exists, i when iteration i is written, ITERATIONS when it
// is finished. MODE "recorder" is ours; "chunked" is how not to do it: /timing/step_ns as a
// growing, chunked dataset without flushes.
#include <cstdint>
#include <iostream>
#include <string>
#include <unistd.h>

#include "framework/record/recorder.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

void report(std::int64_t number) {
  if (::write(STDOUT_FILENO, &number, sizeof(number)) != sizeof(number)) {
    throw RunError("the test is gone");
  }
}

void record(const std::string& file, std::int64_t iterations) {
  auto spec = test::full_spec();
  spec.iterations = iterations;
  RankRecorder recorder(file, spec);
  report(-1);
  for (std::int64_t i = 0; i < iterations; ++i) {
    for (std::int64_t step = 0; step < spec.steps; ++step) {
      recorder.write_step(i, step, test::origin(1, i, step), test::decision_of(i, step));
    }
    report(i);
  }
  recorder.finish(RunStatus::complete);
  report(iterations);
}

// Raw HDF5, because our layer has no way to do this.
void record_chunked(const std::string& name, std::int64_t iterations) {
  const hid_t file = H5Fcreate(name.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t group = H5Gcreate2(file, path::kTiming, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk[2] = {16, 2};
  H5Pset_chunk(creation, 2, chunk);
  const hsize_t none[2] = {0, 2};
  const hsize_t most[2] = {H5S_UNLIMITED, 2};
  const hid_t space = H5Screate_simple(2, none, most);
  const hid_t dataset =
      H5Dcreate2(file, path::kStepNs, H5T_STD_I64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  report(-1);
  for (std::int64_t i = 0; i < iterations; ++i) {
    const hsize_t length[2] = {static_cast<hsize_t>(i) + 1, 2};
    H5Dset_extent(dataset, length);
    const hid_t rows = H5Dget_space(dataset);
    const hsize_t start[2] = {static_cast<hsize_t>(i), 0};
    const hsize_t count[2] = {1, 2};
    H5Sselect_hyperslab(rows, H5S_SELECT_SET, start, nullptr, count, nullptr);
    const hid_t memory = H5Screate_simple(2, count, nullptr);
    const std::int64_t row[2] = {test::origin(1, i, 0), test::origin(1, i, 1)};
    if (H5Dwrite(dataset, H5T_NATIVE_INT64, memory, rows, H5P_DEFAULT, row) < 0) {
      throw RunError("H5Dwrite");
    }
    H5Sclose(memory);
    H5Sclose(rows);
    report(i);
  }
  H5Dclose(dataset);
  H5Sclose(space);
  H5Pclose(creation);
  H5Gclose(group);
  H5Fclose(file);
  report(iterations);
}

}  // namespace
}  // namespace dovetail

int main(int argc, char** argv) {
  try {
    char go = 0;
    if (argc != 4 || ::read(STDIN_FILENO, &go, 1) != 1) {
      return 2;
    }
    const std::string mode = argv[1];
    (mode == "recorder" ? dovetail::record : dovetail::record_chunked)(argv[2],
                                                                       std::stoll(argv[3]));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 3;
  }
  return 0;
}
