// A step as captured graphs.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/cuda/graph.hpp"
#include "framework/cuda/graph_pool.hpp"
#include "framework/exec/graph_pieces.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/step/cuda/step_events.hpp"

namespace dovetail {

/// Made by CudaStepRunner::capture, replayed by the same runner. Holds raw addresses: everything
/// that the body's kernels touch (model, exchange, frame) lives longer; so do the communicators,
/// whose destruction waits for graphs that name them. Destroy it only while no replay is running.
/// Immovable.
class CapturedStep {
 public:
  /// `is_cut`: the lanes are those of the executor's partition.
  CapturedStep(const Schedule& schedule,
               StepBody& body,
               PassKind pass,
               GraphMode mode,
               bool instrumented,
               bool is_cut)
      : schedule_(schedule),
        body_(&body),
        pass_(pass),
        mode_(mode),
        instrumented_(instrumented),
        is_cut_(is_cut) {}

  CapturedStep(const CapturedStep&) = delete;
  CapturedStep& operator=(const CapturedStep&) = delete;
  CapturedStep(CapturedStep&&) = delete;
  CapturedStep& operator=(CapturedStep&&) = delete;

  GraphMode mode() const { return mode_; }

  PassKind pass() const { return pass_; }

  bool instrumented() const { return instrumented_; }

  const Schedule& schedule() const { return schedule_; }  ///< a copy of the one given to capture

  int num_pieces() const { return static_cast<int>(pieces_.size()); }

  /// Of all pieces.
  int num_nodes() const {
    int count = 0;
    for (const auto& piece : pieces_) {
      count += piece.graph.num_nodes();
    }
    return count;
  }

  std::int64_t capture_ns() const { return capture_ns_; }

  std::int64_t instantiate_ns() const { return instantiate_ns_; }  ///< upload included

  /// The ops of a piece; of a full graph all of them.
  const GraphPiece& ops_of(int piece) const { return at(piece).ops; }

  /// What its times are made of, to look at.
  const StepEvents& events() const { return events_; }

  /// The template of a piece, to look at.
  const Graph& graph(int piece) const { return at(piece).graph; }

 private:
  friend class CudaStepRunner;

  struct Piece {
    GraphPiece ops;
    Graph graph;
    GraphExec exec;
  };

  const Piece& at(int piece) const { return pieces_.at(static_cast<std::size_t>(piece)); }

  // Graphs die before the memory and the events that they name: members are destroyed last to
  // first.
  const Schedule schedule_;
  StepBody* body_;
  const PassKind pass_;
  const GraphMode mode_;
  const bool instrumented_;
  const bool is_cut_;
  GraphMemory memory_;
  StepEvents events_;
  std::vector<Piece> pieces_;
  std::int64_t capture_ns_ = 0;
  std::int64_t instantiate_ns_ = 0;
};

}  // namespace dovetail
