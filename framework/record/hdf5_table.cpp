// Tables (one-dimensional compound datasets) of hdf5::File.
#include <algorithm>
#include <cstring>

#include "framework/base/check.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/hdf5_check.hpp"

namespace dovetail::hdf5 {
namespace {

using detail::HdfMemory;
using detail::text_type;
using detail::unpadded;
using DatasetHandle = Handle<H5Dclose>;

/// Layout of a table's row: the columns one after another without gaps.
struct RowLayout {
  std::size_t num_rows = 0;
  std::size_t row_bytes = 0;
  std::vector<std::size_t> offset;
  std::vector<std::size_t> bytes;
};

RowLayout layout_of(const std::vector<Column>& columns, const std::string& where) {
  RowLayout layout;
  DOVETAIL_CHECK(!columns.empty(), where + ": a table needs a column");
  layout.num_rows = std::visit([](const auto& values) { return values.size(); }, columns[0].values);
  for (const auto& column : columns) {
    std::size_t width = sizeof(std::int32_t);
    std::size_t rows = 0;
    if (const auto* texts = std::get_if<std::vector<std::string>>(&column.values)) {
      rows = texts->size();
      width = 1;
      for (const auto& text : *texts) {
        width = std::max(width, text.size());
      }
    } else {
      rows = std::get<std::vector<std::int32_t>>(column.values).size();
    }
    DOVETAIL_CHECK_EQ(rows, layout.num_rows);
    layout.offset.push_back(layout.row_bytes);
    layout.bytes.push_back(width);
    layout.row_bytes += width;
  }
  return layout;
}

std::vector<char> pack(const std::vector<Column>& columns, const RowLayout& layout) {
  std::vector<char> bytes(layout.num_rows * layout.row_bytes, '\0');
  for (std::size_t c = 0; c < columns.size(); ++c) {
    for (std::size_t row = 0; row < layout.num_rows; ++row) {
      char* cell = bytes.data() + row * layout.row_bytes + layout.offset[c];
      if (const auto* texts = std::get_if<std::vector<std::string>>(&columns[c].values)) {
        std::copy((*texts)[row].begin(), (*texts)[row].end(), cell);
      } else {
        const auto value = std::get<std::vector<std::int32_t>>(columns[c].values)[row];
        std::memcpy(cell, &value, sizeof(value));
      }
    }
  }
  return bytes;
}

Column unpack(std::string name,
              bool is_text,
              std::size_t offset,
              std::size_t width,
              const std::vector<char>& bytes,
              std::size_t row_bytes) {
  std::vector<std::int32_t> numbers;
  std::vector<std::string> texts;
  for (std::size_t start = offset; start < bytes.size(); start += row_bytes) {
    if (is_text) {
      texts.push_back(unpadded(bytes.data() + start, width));
    } else {
      std::memcpy(&numbers.emplace_back(), bytes.data() + start, sizeof(std::int32_t));
    }
  }
  if (is_text) {
    return {std::move(name), std::move(texts)};
  }
  return {std::move(name), std::move(numbers)};
}

}  // namespace

void File::write_table(const std::string& path, const std::vector<Column>& columns) {
  const std::string where = path_ + ": " + path;
  const RowLayout layout = layout_of(columns, where);
  const Type row(DOVETAIL_HDF5(where, H5Tcreate, H5T_COMPOUND, layout.row_bytes));
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const bool is_text = std::holds_alternative<std::vector<std::string>>(columns[c].values);
    const Type cell = is_text ? text_type(layout.bytes[c], where) : make_type(DType::int32);
    DOVETAIL_HDF5(
        where, H5Tinsert, row.get(), columns[c].name.c_str(), layout.offset[c], cell.get());
  }
  const auto space = detail::make_space({static_cast<std::int64_t>(layout.num_rows)}, where);
  const Handle<H5Pclose> links(DOVETAIL_HDF5(where, H5Pcreate, H5P_LINK_CREATE));
  DOVETAIL_HDF5(where, H5Pset_create_intermediate_group, links.get(), 1);
  const DatasetHandle handle(DOVETAIL_HDF5(where,
                                           H5Dcreate2,
                                           handle_.get(),
                                           path.c_str(),
                                           row.get(),
                                           space.get(),
                                           links.get(),
                                           H5P_DEFAULT,
                                           H5P_DEFAULT));
  const auto bytes = pack(columns, layout);
  if (!bytes.empty()) {
    DOVETAIL_HDF5(
        where, H5Dwrite, handle.get(), row.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data());
  }
}

std::vector<Column> File::read_table(const std::string& path) const {
  const std::string where = path_ + ": " + path;
  const DatasetHandle handle(
      DOVETAIL_HDF5(where, H5Dopen2, handle_.get(), path.c_str(), H5P_DEFAULT));
  const Type row(DOVETAIL_HDF5(where, H5Dget_type, handle.get()));
  const Space space(DOVETAIL_HDF5(where, H5Dget_space, handle.get()));
  if (H5Tget_class(row.get()) != H5T_COMPOUND) {
    throw Hdf5Error(where + ": not a table");
  }
  const std::size_t row_bytes = H5Tget_size(row.get());
  const auto num_rows = DOVETAIL_HDF5(where, H5Sget_simple_extent_npoints, space.get());
  const auto num_bytes =
      detail::saturating_product<hsize_t>(static_cast<hsize_t>(num_rows), row_bytes);
  detail::check_stored(handle.get(), num_bytes, where);
  std::vector<char> bytes(num_bytes);
  if (!bytes.empty()) {
    DOVETAIL_HDF5(
        where, H5Dread, handle.get(), row.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data());
  }
  std::vector<Column> columns;
  const int num_columns = DOVETAIL_HDF5(where, H5Tget_nmembers, row.get());
  for (unsigned c = 0; c < static_cast<unsigned>(num_columns); ++c) {
    HdfMemory name;
    name.text = H5Tget_member_name(row.get(), c);
    const Type cell(DOVETAIL_HDF5(where, H5Tget_member_type, row.get(), c));
    const bool is_text = H5Tget_class(cell.get()) == H5T_STRING &&
                         DOVETAIL_HDF5(where, H5Tis_variable_str, cell.get()) == 0;
    if (!is_text && detail::dtype_of(cell.get()) != DType::int32) {
      throw Hdf5Error(where + ": column '" + name.take() + "' is neither int32 nor text");
    }
    const std::size_t offset = H5Tget_member_offset(row.get(), c);
    const std::size_t width = H5Tget_size(cell.get());
    if (offset > row_bytes || width > row_bytes - offset) {
      throw Hdf5Error(where + ": column '" + name.take() + "' is beyond the row");
    }
    columns.push_back(unpack(name.take(), is_text, offset, width, bytes, row_bytes));
  }
  return columns;
}

}  // namespace dovetail::hdf5
