// Inputs of the targets as files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dovetail::fuzz {

/// The bytes of files of this repository, whose paths start at its root. Throws InputError where
/// one cannot be read.
std::vector<std::string> files(const std::vector<std::string>& paths);

/// The bytes of files of this repository `folder`/`*`/`name`.
std::vector<std::string> files_below(const std::filesystem::path& folder, const std::string& name);

/// Pieces of JSON, and these.
std::vector<std::string> json_tokens_and(std::vector<std::string> own);

/// Writes the target's seeds into `folder`, a file each, and its tokens as a dictionary of
/// libFuzzer.
void write_seeds(const std::filesystem::path& folder, const std::filesystem::path& dictionary);

/// Replaces the file's bytes.
void write_input(const std::filesystem::path& file, const std::string& bytes);

}  // namespace dovetail::fuzz
