// The one owning and checked layer over the HDF5 C API: nothing else in Dovetail calls HDF5. It
// knows files, datasets, tables and attributes; schema_table.hpp knows what they mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <hdf5.h>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/base/types.hpp"

namespace dovetail::hdf5 {

/// A call of the HDF5 library failed. what() = "<file>: <call> <object>: <HDF5's own error stack>",
/// readable whatever a damaged file has for names.
class Hdf5Error : public RunError {
 public:
  explicit Hdf5Error(const std::string& what) : RunError(printable(what, std::string::npos)) {}
};

/// Lengths of the dimensions, slowest first; empty = a scalar.
using Shape = std::vector<std::int64_t>;

/// Product of the lengths; 1 for a scalar. At most the largest int64.
std::int64_t num_elements(const Shape& shape);

/// "[2, 128]".
std::string to_string(const Shape& shape);

/// Text is UTF-8; of a file by others or a damaged one, U+FFFD stands for what is not.
using AttributeValue = std::variant<std::string, std::int64_t, double>;

/// A named value of the file, a group or a dataset.
struct Attribute {
  std::string name;
  AttributeValue value;

  friend bool operator==(const Attribute&, const Attribute&) = default;
};

/// A column of a table (one-dimensional compound dataset): int32 or fixed-length text.
struct Column {
  std::string name;
  std::variant<std::vector<std::int32_t>, std::vector<std::string>> values;

  friend bool operator==(const Column&, const Column&) = default;
};

/// Version of the HDF5 headers, and of the library that is loaded: "1.10.8".
std::string compiled_version();
std::string loaded_version();

/// What an element holds before it is written: NaN for floating-point types, -1 for signed
/// integers, 255 for uint8. Size: size_of(dtype) bytes.
std::vector<std::byte> fill_value(DType dtype);

/// Owns one HDF5 identifier. Move-only. The destructor closes and ignores errors; `close` throws.
template <herr_t (*kClose)(hid_t)>
class Handle {
 public:
  Handle() = default;

  explicit Handle(hid_t id) : id_(id) {}

  ~Handle() { reset(); }

  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}

  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      id_ = std::exchange(other.id_, H5I_INVALID_HID);
    }
    return *this;
  }

  hid_t get() const { return id_; }

  explicit operator bool() const { return id_ >= 0; }

  /// Closes now, whatever HDF5 answers.
  void reset() noexcept {
    if (id_ >= 0) {
      static_cast<void>(kClose(std::exchange(id_, H5I_INVALID_HID)));
    }
  }

  /// Closes now and returns what HDF5 answers.
  herr_t close() noexcept { return id_ < 0 ? 0 : kClose(std::exchange(id_, H5I_INVALID_HID)); }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

using Space = Handle<H5Sclose>;
using Type = Handle<H5Tclose>;

/// The type that elements of `dtype` have in a file: little endian; bfloat16 is a float of 1 sign,
/// 8 exponent and 7 mantissa bits with bias 127, which HDF5 and h5py convert to float32.
Type make_type(DType dtype);

/// An open dataset of one of our element types. Read and written in its own dtype, never converted.
class Dataset {
 public:
  const std::string& name() const { return name_; }  ///< "<file>: <path>", for messages

  const Shape& shape() const { return shape_; }

  DType dtype() const { return dtype_; }

  std::int64_t num_bytes() const {
    return num_elements(shape_) * static_cast<std::int64_t>(size_of(dtype_));
  }

  /// Throws Hdf5Error unless the file holds what the shape promises, so that a reader may take
  /// memory for num_bytes().
  void check_stored() const;

  /// Whole dataset; `bytes` has num_bytes() bytes.
  void read(std::span<std::byte> bytes) const;
  void write(std::span<const std::byte> bytes);

  /// The box [start, start + count) in every dimension, row-major in `bytes`. Out of range or
  /// another number of bytes throws ContractError.
  void read_box(const Shape& start, const Shape& count, std::span<std::byte> bytes) const;
  void write_box(const Shape& start, const Shape& count, std::span<const std::byte> bytes);

 private:
  friend class File;
  Dataset(std::string name, Handle<H5Dclose> handle, Shape shape, DType dtype);
  /// Selects the box in space_ and returns the space of its bytes; nothing for an empty box.
  Space select(const Shape& start, const Shape& count, std::size_t num_bytes) const;

  std::string name_;
  Handle<H5Dclose> handle_;
  Type type_;
  Space space_;
  Shape shape_;
  DType dtype_;
};

/// A block of a virtual dataset: the whole of dataset `path` of `file` appears at index `row` of
/// the virtual dataset's first dimension, starting at 0 in the others.
struct VirtualBlock {
  std::int64_t row = 0;
  std::string file;  ///< relative to the folder of the virtual dataset's file
  std::string path;
  Shape shape;
};

enum class Access { read, read_write };

/// An open HDF5 file. Move-only; one thread at a time; every Dataset of it must be destroyed before
/// it is closed. File locks are not used (one writer a file; some cluster file systems have none)
/// unless HDF5_USE_FILE_LOCKING asks for them. Raw data is never cached: it is in the kernel when a
/// write returns. All functions throw Hdf5Error with the file's name.
class File {
 public:
  /// Fails where the file exists.
  static File create(const std::string& path);
  static File open(const std::string& path, Access access);

  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File(File&&) noexcept = default;
  File& operator=(File&&) noexcept = default;
  ~File() = default;

  const std::string& path() const { return path_; }

  /// Hands all metadata to the kernel.
  void flush();
  /// Flushes and closes, and throws where that fails (the destructor does not). An open Dataset is
  /// a ContractError.
  void close();

  bool exists(const std::string& path) const;
  bool is_group(const std::string& path) const;
  /// Names in a group, ascending.
  std::vector<std::string> children(const std::string& group) const;
  /// Paths of all datasets, "/timing/step_ns", ascending; each group is entered once.
  std::vector<std::string> datasets() const;

  /// Unlinks a dataset or a group; its space is not given back.
  void remove(const std::string& path);

  /// Makes the group and those above it; one that exists is left alone.
  void create_group(const std::string& path);

  /// Contiguous, allocated at once, filled with fill_value(dtype). Makes the groups above it.
  Dataset create_dataset(const std::string& path, DType dtype, const Shape& shape);

  /// Shows blocks of other files; fill_value(dtype) where there is none or a file is gone. No
  /// length is 0, each block has one dimension less than `shape`.
  void create_virtual_dataset(const std::string& path,
                              DType dtype,
                              const Shape& shape,
                              const std::vector<VirtualBlock>& blocks);

  /// Throws where the dataset has an element type that is none of ours, or more bytes than an int64
  /// counts.
  Dataset open_dataset(const std::string& path) const;
  /// The element type; nothing where it is none of ours (text, table).
  std::optional<DType> dtype(const std::string& path) const;

  /// Throws where the file goes on behind its end, or texts of variable length are not stored as
  /// HDF5 stores them: the library would write beyond its memory (1.10). Before any of them is
  /// read.
  void check_text_heaps() const;

  /// Scalar variable-length text dataset.
  void write_text(const std::string& path, const std::string& text);
  std::string read_text(const std::string& path) const;

  /// One-dimensional compound dataset; columns of equal length.
  void write_table(const std::string& path, const std::vector<Column>& columns);
  /// Throws also where the file does not hold the rows that it promises.
  std::vector<Column> read_table(const std::string& path) const;

  /// `object` is "/", a group or a dataset. Text is stored with variable length.
  void create_attribute(const std::string& object, const Attribute& attribute);
  /// Text of at most `capacity` bytes that is stored in place, so that it can be changed later
  /// without moving anything in the file.
  void create_fixed_text(const std::string& object,
                         const std::string& name,
                         std::size_t capacity,
                         const std::string& text);
  /// Changes a number or a fixed-length text in place; text beyond the capacity is cut between two
  /// characters. Changing variable-length text or the kind of value throws ContractError.
  void update_attribute(const std::string& object, const Attribute& attribute);
  bool has_attribute(const std::string& object, const std::string& name) const;
  AttributeValue attribute(const std::string& object, const std::string& name) const;
  /// All text and scalar number attributes, ascending by name.
  std::vector<Attribute> attributes(const std::string& object) const;

 private:
  File(std::string path, Handle<H5Fclose> handle);

  std::string path_;
  Handle<H5Fclose> handle_;
};

}  // namespace dovetail::hdf5
