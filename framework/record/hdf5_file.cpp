// Files, groups and the creation of datasets; attributes, text and tables are in hdf5_values.cpp.
#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include "framework/base/check.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/hdf5_check.hpp"

namespace dovetail::hdf5 {
namespace {

using PropertyList = Handle<H5Pclose>;
using ObjectHandle = Handle<H5Oclose>;

PropertyList file_access(const std::string& where) {
  PropertyList list(DOVETAIL_HDF5(where, H5Pcreate, H5P_FILE_ACCESS));
  // Without the sieve buffer a write goes straight to the kernel, and so survives a killed process.
  DOVETAIL_HDF5(where, H5Pset_sieve_buf_size, list.get(), 0);
  DOVETAIL_HDF5(where, H5Pset_file_locking, list.get(), false, true);
  return list;
}

PropertyList link_creation(const std::string& where) {
  PropertyList list(DOVETAIL_HDF5(where, H5Pcreate, H5P_LINK_CREATE));
  DOVETAIL_HDF5(where, H5Pset_create_intermediate_group, list.get(), 1);
  return list;
}

PropertyList dataset_creation(DType dtype, const std::string& where) {
  PropertyList list(DOVETAIL_HDF5(where, H5Pcreate, H5P_DATASET_CREATE));
  DOVETAIL_HDF5(
      where, H5Pset_fill_value, list.get(), make_type(dtype).get(), fill_value(dtype).data());
  // A time of modification would be metadata that changes with every write.
  DOVETAIL_HDF5(where, H5Pset_obj_track_times, list.get(), false);
  return list;
}

H5O_info_t object_info(hid_t file, const std::string& path, const std::string& where) {
  H5O_info_t info;
  DOVETAIL_HDF5(
      where, H5Oget_info_by_name2, file, path.c_str(), &info, H5O_INFO_BASIC, H5P_DEFAULT);
  return info;
}

}  // namespace

File::File(std::string path, Handle<H5Fclose> handle)
    : path_(std::move(path)), handle_(std::move(handle)) {}

File File::create(const std::string& path) {
  const auto access = file_access(path);
  return {path,
          Handle<H5Fclose>(DOVETAIL_HDF5(
              path, H5Fcreate, path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access.get()))};
}

File File::open(const std::string& path, Access access) {
  const auto list = file_access(path);
  const unsigned mode = access == Access::read ? H5F_ACC_RDONLY : H5F_ACC_RDWR;
  return {path, Handle<H5Fclose>(DOVETAIL_HDF5(path, H5Fopen, path.c_str(), mode, list.get()))};
}

void File::flush() {
  DOVETAIL_HDF5(path_, H5Fflush, handle_.get(), H5F_SCOPE_LOCAL);
}

void File::close() {
  const auto num_open =
      DOVETAIL_HDF5(path_,
                    H5Fget_obj_count,
                    handle_.get(),
                    H5F_OBJ_LOCAL | H5F_OBJ_DATASET | H5F_OBJ_GROUP | H5F_OBJ_ATTR);
  DOVETAIL_CHECK(num_open == 0, path_ + ": close with open datasets");
  const FileWork work(path_);
  detail::check(handle_.close(), "H5Fclose", path_);
}

bool File::exists(const std::string& path) const {
  // H5Lexists fails where a group in between is missing, so each part is asked for in turn.
  for (std::size_t end = path.find('/', 1); end != std::string::npos;
       end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (DOVETAIL_HDF5(path_ + ": " + part, H5Lexists, handle_.get(), part.c_str(), H5P_DEFAULT) ==
        0) {
      return false;
    }
    if (!is_group(part)) {
      return false;
    }
  }
  return path == "/" ||
         DOVETAIL_HDF5(path_ + ": " + path, H5Lexists, handle_.get(), path.c_str(), H5P_DEFAULT) >
             0;
}

bool File::is_group(const std::string& path) const {
  return object_info(handle_.get(), path, path_ + ": " + path).type == H5O_TYPE_GROUP;
}

std::vector<std::string> File::children(const std::string& group) const {
  const std::string where = path_ + ": " + group;
  H5G_info_t info;
  DOVETAIL_HDF5(where, H5Gget_info_by_name, handle_.get(), group.c_str(), &info, H5P_DEFAULT);
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const auto get = [&](char* buffer, std::size_t size) {
      return DOVETAIL_HDF5(where,
                           H5Lget_name_by_idx,
                           handle_.get(),
                           group.c_str(),
                           H5_INDEX_NAME,
                           H5_ITER_INC,
                           i,
                           buffer,
                           size,
                           H5P_DEFAULT);
    };
    std::string name(static_cast<std::size_t>(get(nullptr, 0)), '\0');
    get(name.data(), name.size() + 1);
    if (detail::as_utf8(name) != name) {
      throw Hdf5Error(where + ": holds a name that is not UTF-8");
    }
    names.push_back(std::move(name));
  }
  return names;
}

std::vector<std::string> File::datasets() const {
  std::vector<std::string> found;
  std::vector<std::string> groups = {"/"};
  std::set<haddr_t> entered = {object_info(handle_.get(), "/", path_).addr};
  while (!groups.empty()) {
    const std::string group = std::move(groups.back());
    groups.pop_back();
    for (const auto& name : children(group)) {
      const std::string path = (group == "/" ? "" : group) + "/" + name;
      const auto info = object_info(handle_.get(), path, path_ + ": " + path);
      if (info.type != H5O_TYPE_GROUP) {
        found.push_back(path);
      } else if (entered.insert(info.addr).second) {  // a link may lead back to a group above
        groups.push_back(path);
      }
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

void File::remove(const std::string& path) {
  DOVETAIL_HDF5(path_ + ": " + path, H5Ldelete, handle_.get(), path.c_str(), H5P_DEFAULT);
}

void File::create_group(const std::string& path) {
  if (exists(path)) {
    return;
  }
  const std::string where = path_ + ": " + path;
  const auto links = link_creation(where);
  const Handle<H5Gclose> group(DOVETAIL_HDF5(
      where, H5Gcreate2, handle_.get(), path.c_str(), links.get(), H5P_DEFAULT, H5P_DEFAULT));
}

Dataset File::create_dataset(const std::string& path, DType dtype, const Shape& shape) {
  const std::string where = path_ + ": " + path;
  const auto links = link_creation(where);
  const auto creation = dataset_creation(dtype, where);
  DOVETAIL_HDF5(where, H5Pset_layout, creation.get(), H5D_CONTIGUOUS);
  DOVETAIL_HDF5(where, H5Pset_alloc_time, creation.get(), H5D_ALLOC_TIME_EARLY);
  DOVETAIL_HDF5(where, H5Pset_fill_time, creation.get(), H5D_FILL_TIME_ALLOC);
  const auto space = detail::make_space(shape, where);
  Handle<H5Dclose> handle(DOVETAIL_HDF5(where,
                                        H5Dcreate2,
                                        handle_.get(),
                                        path.c_str(),
                                        make_type(dtype).get(),
                                        space.get(),
                                        links.get(),
                                        creation.get(),
                                        H5P_DEFAULT));
  return {where, std::move(handle), shape, dtype};
}

void File::create_virtual_dataset(const std::string& path,
                                  DType dtype,
                                  const Shape& shape,
                                  const std::vector<VirtualBlock>& blocks) {
  const std::string where = path_ + ": " + path;
  const auto links = link_creation(where);
  const auto creation = dataset_creation(dtype, where);
  const auto space = detail::make_space(shape, where);
  for (const auto& block : blocks) {
    DOVETAIL_CHECK_EQ(block.shape.size() + 1, shape.size());
    const std::vector<hsize_t> source(block.shape.begin(), block.shape.end());
    std::vector<hsize_t> start(shape.size(), 0);
    start[0] = static_cast<hsize_t>(block.row);
    std::vector<hsize_t> count = {1};
    count.insert(count.end(), source.begin(), source.end());
    DOVETAIL_HDF5(where,
                  H5Sselect_hyperslab,
                  space.get(),
                  H5S_SELECT_SET,
                  start.data(),
                  nullptr,
                  count.data(),
                  nullptr);
    const auto source_space = detail::make_space(block.shape, where);
    DOVETAIL_HDF5(where,
                  H5Pset_virtual,
                  creation.get(),
                  space.get(),
                  block.file.c_str(),
                  block.path.c_str(),
                  source_space.get());
  }
  DOVETAIL_HDF5(where, H5Sselect_all, space.get());
  const Handle<H5Dclose> handle(DOVETAIL_HDF5(where,
                                              H5Dcreate2,
                                              handle_.get(),
                                              path.c_str(),
                                              make_type(dtype).get(),
                                              space.get(),
                                              links.get(),
                                              creation.get(),
                                              H5P_DEFAULT));
}

std::optional<DType> File::dtype(const std::string& path) const {
  const std::string where = path_ + ": " + path;
  const Handle<H5Dclose> handle(
      DOVETAIL_HDF5(where, H5Dopen2, handle_.get(), path.c_str(), H5P_DEFAULT));
  const Type type(DOVETAIL_HDF5(where, H5Dget_type, handle.get()));
  return detail::dtype_of(type.get());
}

Dataset File::open_dataset(const std::string& path) const {
  const std::string where = path_ + ": " + path;
  Handle<H5Dclose> handle(DOVETAIL_HDF5(where, H5Dopen2, handle_.get(), path.c_str(), H5P_DEFAULT));
  const Type type(DOVETAIL_HDF5(where, H5Dget_type, handle.get()));
  const auto dtype = detail::dtype_of(type.get());
  if (!dtype) {
    throw Hdf5Error(where +
                    ": element type is none of float32, float16, bfloat16, float64, int32, "
                    "int64, uint8");
  }
  const Space space(DOVETAIL_HDF5(where, H5Dget_space, handle.get()));
  const int dimensions = DOVETAIL_HDF5(where, H5Sget_simple_extent_ndims, space.get());
  std::vector<hsize_t> lengths(static_cast<std::size_t>(dimensions));
  DOVETAIL_HDF5(where, H5Sget_simple_extent_dims, space.get(), lengths.data(), nullptr);
  hsize_t num_bytes = size_of(*dtype);
  for (const hsize_t length : lengths) {
    num_bytes = detail::saturating_product(num_bytes, std::max<hsize_t>(length, 1));
  }
  Shape shape(lengths.begin(), lengths.end());
  if (num_bytes > static_cast<hsize_t>(std::numeric_limits<std::int64_t>::max())) {
    throw Hdf5Error(where + ": shape " + to_string(shape) + " is beyond any file");
  }
  return {where, std::move(handle), std::move(shape), *dtype};
}

}  // namespace dovetail::hdf5
