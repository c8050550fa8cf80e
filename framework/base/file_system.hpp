// What the file system says, as InputError with path and reason where it says nothing. The calls of
// std::filesystem that throw stand in this file's source only: their message is none for a user,
// and a folder without permission or a loop of links is no failure of a run.
#pragma once

#include <filesystem>
#include <vector>

namespace dovetail {

/// Whether there is anything of that name; a link counts as what it leads to. Throws InputError
/// "<path>: cannot be looked at: <reason>" where that is not known: no permission, a loop of links,
/// a name that is too long.
bool path_exists(const std::filesystem::path& path);

/// Whether the name is taken, be it by a link that leads nowhere. Throws as path_exists.
bool is_name_taken(const std::filesystem::path& path);

/// Whether it is there and a folder. Throws as path_exists.
bool is_folder(const std::filesystem::path& path);

/// Whether it is there and a regular file. Throws as path_exists.
bool is_plain_file(const std::filesystem::path& path);

/// Paths of all that a folder holds, in order. Throws InputError "<folder>: cannot be read:
/// <reason>".
std::vector<std::filesystem::path> list_folder(const std::filesystem::path& folder);

/// Whether two paths lead to one file or folder; both have to be there. Throws InputError.
bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b);

/// Without links, ".", ".." as far as the path exists. Throws InputError.
std::filesystem::path real_path_of(const std::filesystem::path& path);

/// Makes a folder and those above it where they are absent. Throws InputError "<folder>: cannot be
/// made: <reason>".
void make_folders(const std::filesystem::path& folder);

/// Gives a file or folder a name that is not taken, on the same file system. Throws InputError.
void move_to_new_name(const std::filesystem::path& from, const std::filesystem::path& to);

/// The system's folder for temporary files. Throws InputError that names TMPDIR.
std::filesystem::path temporary_folder();

}  // namespace dovetail
