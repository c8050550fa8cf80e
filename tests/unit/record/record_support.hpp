// What the record tests share: a folder that goes away, a spec with every part of the layout, and
// data that names its origin.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "framework/record/recorder.hpp"
#include "framework/record/schema.hpp"

namespace dovetail::test {

using TempFolder = ScratchFolder;

/// A seed that is new in every run and printed, so that a failure can be repeated:
/// DOVETAIL_TEST_SEED sets it.
std::uint64_t fresh_seed(const char* test);

/// A number that tells which element it belongs to; never -1.
std::int64_t origin(std::int64_t kind, std::int64_t i, std::int64_t j = 0);

/// A small rank file with all of the layout: two schedules, outputs in float32, float16, bfloat16,
/// routes.
RankFileSpec full_spec(std::int64_t rank = 0, std::int64_t world_size = 1);

/// The decision that tests write for a step.
DecisionRow decision_of(std::int64_t iteration, std::int64_t step);

/// Writes the file of full_spec with every dataset filled from `origin`, and finishes it.
void write_full_file(const std::filesystem::path& path, const RankFileSpec& spec);

/// Bytes of a file, and a file of bytes.
std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& bytes);

/// Runs a program without a shell and returns its exit code; what it prints lands in `output`
/// (both streams). -1 where it cannot be started; killed after 100 s.
int run_program(const std::vector<std::string>& arguments, std::string& output);

/// What h5py reads in each file (h5py_dump.py), by path. Throws where neither python3 nor
/// /usr/bin/python3 has h5py, or where it cannot read a file.
nlohmann::json h5py_dump(const std::vector<std::filesystem::path>& files);

}  // namespace dovetail::test
