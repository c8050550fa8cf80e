#include "framework/record/read_handle.hpp"

#include <list>
#include <optional>

#include "framework/record/damage_guard.hpp"
#include "framework/record/reader_check.hpp"

namespace dovetail {

struct ReadHandle::State {
  std::filesystem::path path;
  std::optional<hdf5::File> file;
  std::list<State*>::iterator place;  ///< among the open ones; of an open one only
};

namespace {

/// Used last first.
std::list<ReadHandle::State*>& open_states() {
  static std::list<ReadHandle::State*> states;
  return states;
}

void close(ReadHandle::State& state) {
  if (state.file) {
    const std::string name = state.path.string();
    const DamageGuard guard(name);
    state.file.reset();
    open_states().erase(state.place);
  }
}

}  // namespace

int num_open_for_reading() {
  return static_cast<int>(open_states().size());
}

ReadHandle::ReadHandle(const std::filesystem::path& path)
    : state_(std::make_unique<State>(State{path, std::nullopt, {}})) {
  file();
}

ReadHandle::~ReadHandle() {
  if (state_) {
    close(*state_);
  }
}

ReadHandle::ReadHandle(ReadHandle&& other) noexcept = default;

ReadHandle& ReadHandle::operator=(ReadHandle&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

const hdf5::File& ReadHandle::file() const {
  auto& states = open_states();
  if (state_->file) {
    states.splice(states.begin(), states, state_->place);
    return *state_->file;
  }
  while (states.size() >= kMaxOpenForReading) {
    close(*states.back());
  }
  state_->file.emplace(detail::open_for_reading(state_->path));
  state_->place = states.insert(states.begin(), state_.get());
  return *state_->file;
}

}  // namespace dovetail
