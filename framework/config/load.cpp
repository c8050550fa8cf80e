#include "framework/config/load.hpp"

#include <utility>

#include "framework/base/text_file.hpp"
#include "framework/config/key_table.hpp"
#include "framework/config/override.hpp"

namespace dovetail {
namespace {

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
  return read_text_file(path, kExperimentText);
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
  keys_of<Experiment>().read({&root, ""}, loaded.experiment);
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
