// view.h5: all ranks of a policy as one file, without copying their data.
#pragma once

#include <filesystem>

namespace dovetail {

/// Writes <policy folder>/view.h5, replacing an older one. For every numeric dataset of the rank
/// files a virtual dataset of shape [ranks, ...] with each length the maximum over ranks, NaN or -1
/// where a rank is short or missing; a scalar becomes [ranks]. A table /ranks holds rank, status
/// (also "missing", "unreadable"), host and file. The rank files are named relative to the folder,
/// so it can be moved. Also for failed runs. A process that holds a rank file open sees fill values
/// for that rank: HDF5 opens it a second time only with equal locking flags. Returns the path.
/// InputError where no rank file can be read or ranks contradict one another.
std::filesystem::path write_view(const std::filesystem::path& policy_folder);

}  // namespace dovetail
