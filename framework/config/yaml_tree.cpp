#include "framework/config/yaml_tree.hpp"

#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

constexpr std::size_t kMaxLevels = 32;
constexpr std::size_t kMaxValues = 100'000;

std::size_t count_values(const YamlNode& node) {
  std::size_t count = 1;
  for (const YamlNode& item : node.items) {
    count += count_values(item);
  }
  for (const YamlEntry& entry : node.entries) {
    count += count_values(entry.value);
  }
  return count;
}

/// Builds the tree from yaml-cpp's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::string file) : file_(std::move(file)) {}

  bool has_document() const { return num_documents_ > 0; }

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (num_documents_++ > 0) {
      fail_at(place(mark), "a second document begins here; allowed: one document a file");
    }
  }

  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    finish(make(YamlNode::Kind::null, mark), anchor);
  }

  void OnScalar(const YAML::Mark& mark,
                const std::string& tag,
                YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = make(YamlNode::Kind::scalar, mark);
    check_tag(tag, mark);
    node.text = value;
    node.quoted = tag == "!";
    finish(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark,
                       const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(YamlNode::Kind::sequence, mark, tag, anchor);
  }

  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark,
                  const std::string& tag,
                  YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open(YamlNode::Kind::map, mark, tag, anchor);
  }

  void OnMapEnd() override { close(); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      fail_at(place(mark), "an alias inside of the value that it names");
    }
    num_values_ += count_values(found->second);
    check_size(place(mark));
    finish(found->second, 0);
  }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    std::optional<YamlNode> key;
  };

  SourceMark place(const YAML::Mark& mark) const {
    return mark.is_null() ? SourceMark{file_, 0, 0}
                          : SourceMark{file_, mark.line + 1, mark.column + 1};
  }

  void check_size(const SourceMark& mark) const {
    if (num_values_ > kMaxValues) {
      fail_at(mark, "too many values; allowed: " + std::to_string(kMaxValues));
    }
  }

  void check_tag(const std::string& tag, const YAML::Mark& mark) const {
    if (!tag.empty() && tag != "?" && tag != "!") {
      fail_at(place(mark), "a tag; allowed: values without tags");
    }
  }

  YamlNode make(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.mark = place(mark);
    ++num_values_;
    check_size(node.mark);
    return node;
  }

  void open(YamlNode::Kind kind,
            const YAML::Mark& mark,
            const std::string& tag,
            YAML::anchor_t anchor) {
    check_tag(tag, mark);
    if (open_.size() >= kMaxLevels) {
      fail_at(place(mark), "too many levels; allowed: " + std::to_string(kMaxLevels));
    }
    open_.push_back({make(kind, mark), anchor, std::nullopt});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    finish(std::move(done.node), done.anchor);
  }

  void finish(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) {
      anchors_[anchor] = node;
    }
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::sequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      check_key(parent.node, node);
      parent.key = std::move(node);
    } else {
      // yaml-cpp places an absent value at the next token, often on another line.
      if (node.kind == YamlNode::Kind::null) {
        node.mark = parent.key->mark;
      }
      parent.node.entries.push_back(
          {std::move(parent.key->text), std::move(parent.key->mark), std::move(node)});
      parent.key.reset();
    }
  }

  static void check_key(const YamlNode& map, const YamlNode& key) {
    if (key.kind != YamlNode::Kind::scalar) {
      fail_at(key.mark, describe(key) + " as a key; allowed: text");
    }
    for (const YamlEntry& entry : map.entries) {
      if (entry.key == key.text) {
        fail_at(key.mark,
                "duplicate key '" + printable(key.text) + "', first in line " +
                    std::to_string(entry.mark.line));
      }
    }
  }

  std::string file_;
  int num_documents_ = 0;
  std::size_t num_values_ = 0;
  YamlNode root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
};

}  // namespace

const YamlNode* YamlNode::find(const std::string& key) const {
  for (const YamlEntry& entry : entries) {
    if (entry.key == key) {
      return &entry.value;
    }
  }
  return nullptr;
}

YamlNode* YamlNode::find(const std::string& key) {
  return const_cast<YamlNode*>(std::as_const(*this).find(key));
}

YamlNode parse_yaml(const std::string& text, const std::string& file) {
  check_text(text, file);
  TreeBuilder builder(file);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Error&) {
    throw;
  } catch (const YAML::Exception& error) {
    throw InputError(file, error.mark.line + 1, error.mark.column + 1, error.msg);
  } catch (const std::exception& error) {
    throw InputError(file, 0, 0, std::string("not YAML: ") + error.what());
  }
  if (!builder.has_document()) {
    throw InputError(file, 1, 1, "no YAML document: the text is empty");
  }
  return builder.take_root();
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "nothing";
    case YamlNode::Kind::sequence:
      return "a list";
    case YamlNode::Kind::map:
      return "a map";
    case YamlNode::Kind::scalar:
      break;
  }
  return (node.quoted ? "text '" : "'") + printable(node.text) + "'";
}

void fail_at(const SourceMark& mark, const std::string& message) {
  throw InputError(mark.file, mark.line, mark.column, message);
}

}  // namespace dovetail
