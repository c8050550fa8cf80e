#include "framework/config/load.hpp"

#include <fstream>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/config/override.hpp"
#include "framework/config/read_experiment.hpp"

namespace dovetail {
namespace {

constexpr std::size_t kMaxBytes = 1U << 20U;

void collect_marks(const YamlNode& node,
                   const std::string& path,
                   std::map<std::string, SourceMark>& marks) {
  marks[path] = node.mark;
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    collect_marks(node.items[i], path + "[" + std::to_string(i) + "]", marks);
  }
  for (const YamlEntry& entry : node.entries) {
    collect_marks(entry.value, path.empty() ? entry.key : path + "." + entry.key, marks);
  }
}

}  // namespace

std::string read_experiment_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!stream.eof() && stream.gcount() == 0) {
    throw InputError(path, 0, 0, "cannot be opened or read; allowed: a YAML file");
  }
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kMaxBytes) {
    throw InputError(path, 0, 0, "larger than 1 MiB; allowed: an experiment in YAML");
  }
  return text;
}

LoadedExperiment parse_experiment(const std::string& text,
                                  const std::string& file,
                                  const std::vector<std::string>& overrides) {
  YamlNode root = parse_yaml(text, file);
  for (const std::string& setting : overrides) {
    apply_override(root, setting);
  }
  return read_tree(root);
}

LoadedExperiment read_tree(const YamlNode& root) {
  LoadedExperiment loaded;
  loaded.experiment = read_experiment(root);
  collect_marks(root, "", loaded.marks);
  return loaded;
}

LoadedExperiment load_experiment(const std::string& path,
                                 const std::vector<std::string>& overrides) {
  return parse_experiment(read_experiment_file(path), path, overrides);
}

const SourceMark& find_mark(const LoadedExperiment& loaded, std::string path) {
  for (;;) {
    const auto found = loaded.marks.find(path);
    if (found != loaded.marks.end()) {
      return found->second;
    }
    const std::size_t end = path.find_last_of(".[");
    path.resize(end == std::string::npos ? 0 : end);
  }
}

}  // namespace dovetail
