// A small run, made as launch/ makes one, that fails in the way its argument names. expect_end.py
// looks on from outside. Iterations reduce on the comm worker beside "compute" on the main thread.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <unistd.h>

#include "framework/base/log.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/mpi/failure.hpp"
#include "framework/mpi/groups.hpp"
#include "framework/mpi/session.hpp"
#include "framework/mpi/signals.hpp"

namespace dovetail {
namespace {

constexpr int kFailingIteration = 20;

struct Run {
  const MpiSession& session;
  const SignalWatch& signals;
  const RankGroups& groups;
  FailureChannel& channel;
  WaitPolicy policy;

  int rank() const { return session.rank().value; }

  void exchange() const {
    std::int64_t value = rank();
    all_reduce(groups.exchange, {&value, 1}, Reduction::sum, policy);
  }
};

using Fault = std::function<void(const Run&)>;

void announce() {
  log_line("failing now");
}

[[noreturn]] void compute_for_ever() {
  for (std::atomic<int> work{0};; ++work) {
  }
}

void throw_injected(const Run& run) {
  announce();
  throw OpError({run.rank(), 0, 3, "experts"}, "injected failure");
}

void on_rank(const Run& run, int rank, const Fault& fault) {
  if (run.rank() == rank) {
    fault(run);
  }
}

void one_rank_throws(const Run& run) {
  on_rank(run, 1, throw_injected);
}

void two_ranks_throw(const Run& run) {
  if (run.rank() < 2) {
    throw_injected(run);
  }
}

void kill_this_rank(const Run& /*run*/) {
  announce();
  ::raise(SIGKILL);
}

void one_rank_is_killed(const Run& run) {
  on_rank(run, 1, kill_this_rank);
}

void the_first_rank_is_killed(const Run& run) {
  on_rank(run, 0, kill_this_rank);
}

// Nobody polls, so the listening thread has to say it.
void killed_while_peers_compute(const Run& run) {
  on_rank(run, 1, kill_this_rank);
  compute_for_ever();
}

void one_rank_exits(const Run& run) {
  on_rank(run, 1, [](const Run&) {
    announce();
    _exit(0);
  });
}

// Rank 0 throws once rank 1 has come to where it hears of nothing any more.
void throw_beside(const Run& run, const std::function<void()>& deaf) {
  const MPI_Comm comm = run.groups.world.raw();
  on_rank(run, 1, [&](const Run&) {
    MPI_Send(nullptr, 0, MPI_INT, 0, 0, comm);
    deaf();
  });
  on_rank(run, 0, [&](const Run& here) {
    MPI_Recv(nullptr, 0, MPI_INT, 1, 0, comm, MPI_STATUS_IGNORE);
    throw_injected(here);
  });
}

void a_peer_is_stuck(const Run& run) {
  throw_beside(run, compute_for_ever);
}

void a_peer_is_stopped(const Run& run) {
  throw_beside(run, [] { ::raise(SIGSTOP); });
}

// A peer fails for want of that rank, and has not heard from all ranks when mpirun's signal comes,
// 1 s behind the end of the rank.
void is_gone_and_missed(const Run& run, int gone) {
  const MPI_Comm comm = run.groups.world.raw();
  const int peer = 1 - gone;
  on_rank(run, gone, [&](const Run& here) {
    MPI_Send(nullptr, 0, MPI_INT, peer, 0, comm);
    kill_this_rank(here);
  });
  on_rank(run, peer, [&](const Run& here) {
    MPI_Recv(nullptr, 0, MPI_INT, gone, 0, comm, MPI_STATUS_IGNORE);
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    throw_injected(here);
  });
}

// Amid the report of its failure, while it waits for a peer that does not answer.
void interrupted_in_its_report(const Run& run) {
  on_rank(run, 0, [](const Run&) {
    std::thread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      ::kill(getpid(), SIGTERM);
    }).detach();
  });
  a_peer_is_stopped(run);
}

void the_others_time_out(const Run& run) {
  on_rank(run, 1, [](const Run&) {
    announce();
    compute_for_ever();
  });
}

// The comm worker of the failing rank waits for peers that will never come; it must be freed by
// its own rank's report.
void worker_is_mid_wait(const Run& run) {
  on_rank(run, 1, [](const Run& here) {
    auto worker = std::async(std::launch::async, [&here] { here.exchange(); });
    try {
      throw_injected(here);
    } catch (const Error& error) {
      here.channel.report(error.exit_code(), error.what());
    }
    worker.get();
  });
  if (run.rank() != 1) {
    for (;;) {
      run.channel.poll();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

void bad_input(const Run& run) {
  run_on_all_ranks(run.groups.world, run.policy, [&] {
    if (run.rank() > 0) {
      announce();
      throw InputError("config.json", 3, 7, "unknown key 'layer'");
    }
  });
}

void wait_for_signals(const Run& run) {
  if (run.rank() == 0) {
    log_line("ready for signals");
  }
  while (!run.signals.stop_requested()) {
    run.policy.on_poll();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void one_rank_is_interrupted(const Run& run) {
  on_rank(run, 1, [](const Run& here) {
    announce();
    ::kill(getpid(), SIGTERM);
    while (!here.signals.interrupt_requested()) {
      std::this_thread::yield();
    }
  });
}

void interrupted_while_busy(const Run& run) {
  on_rank(run, 1, [](const Run&) {
    announce();
    ::kill(getpid(), SIGTERM);
    compute_for_ever();
  });
}

const std::map<std::string, Fault>& faults() {
  static const std::map<std::string, Fault> all{
      {"none", [](const Run&) {}},
      {"one_rank_throws", one_rank_throws},
      {"two_ranks_throw", two_ranks_throw},
      {"one_rank_is_killed", one_rank_is_killed},
      {"the_first_rank_is_killed", the_first_rank_is_killed},
      {"killed_while_peers_compute", killed_while_peers_compute},
      {"one_rank_exits", one_rank_exits},
      {"a_peer_is_stuck", a_peer_is_stuck},
      {"a_peer_is_stopped", a_peer_is_stopped},
      {"a_peer_is_gone_and_missed", [](const Run& run) { is_gone_and_missed(run, 1); }},
      {"the_first_rank_is_gone_and_missed", [](const Run& run) { is_gone_and_missed(run, 0); }},
      {"interrupted_in_its_report", interrupted_in_its_report},
      {"the_others_time_out", the_others_time_out},
      {"worker_is_mid_wait", worker_is_mid_wait},
      {"bad_input", bad_input},
      {"wait_for_signals", wait_for_signals},
      {"one_rank_is_interrupted", one_rank_is_interrupted},
      {"interrupted_while_busy", interrupted_while_busy},
      {"a_peer_has_finished", [](const Run&) {}},
  };
  return all;
}

void iterate(const Run& run, const Fault& fault) {
  for (int iteration = 0; iteration < 2 * kFailingIteration; ++iteration) {
    if (iteration == kFailingIteration) {
      fault(run);
    }
    auto worker = std::async(std::launch::async, [&run] { run.exchange(); });
    worker.get();
    run.policy.on_poll();
  }
}

int run_and_fail(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "none";
  const SignalWatch signals;
  const MpiSession session(&argc, &argv);
  set_log_rank(session.rank().value);
  const RankGroups groups = make_rank_groups(session, {session.world_size(), session.world_size()});
  FailureChannel channel(groups.control, &signals);
  WaitPolicy policy;
  if (name == "the_others_time_out") {
    policy.timeout = std::chrono::milliseconds(1000);
  }
  channel.set_run(policy.timeout);
  policy.on_poll = [&] {
    signals.poll();
    channel.poll();
  };
  const Run run{session, signals, groups, channel, policy};
  try {
    iterate(run, faults().at(name));
    if (name == "a_peer_has_finished") {
      on_rank(run, 0, throw_injected);
    }
    return 0;
  } catch (const Interrupted& error) {
    channel.report_interrupt(error.exit_code(), error.what());
  } catch (const Error& error) {
    channel.report(error.exit_code(), error.what());
  }
  log_line("flushed");
  channel.end();
}

}  // namespace
}  // namespace dovetail

int main(int argc, char** argv) {
  try {
    return dovetail::run_and_fail(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "outside the run: " << error.what() << std::endl;
    return 1;
  }
}
