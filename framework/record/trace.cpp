#include "framework/record/trace.hpp"

#include <algorithm>
#include <tuple>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/record/profile.hpp"
#include "framework/record/run_folder.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::ordered_json;

// Threads of a rank's process, in the order in which they are shown.
constexpr int kStepThread = 0;
constexpr int kComputeThread = 1;
constexpr int kCommThread = 2;
constexpr int kFirstHandOffThread = 3;

struct Event {
  std::int64_t start_ns;
  std::int64_t end_ns;
  std::int64_t process;
  int thread;
  std::string name;
  std::string category;
  Json arguments;
};

std::string name_of(const OpRecord& op) {
  return op.phase + (op.layer >= 0 ? " l" + std::to_string(op.layer) : "") + " u" +
         std::to_string(op.ubatch) + (op.group >= 0 ? " g" + std::to_string(op.group) : "");
}

void add_ops(const RankFile& file,
             const ScheduleRecord& schedule,
             const RecordedProfile& profile,
             std::size_t iteration,
             std::vector<Event>& events) {
  const RecordedPass& full = profile.pass(ProfilePass::full);
  for (std::size_t i = 0; i < full.ops.size(); ++i) {
    const OpRecord& op = schedule.ops[i];
    Json arguments = {{"layer", op.layer},
                      {"ubatch", op.ubatch},
                      {"phase", op.phase},
                      {"op", i},
                      {"iteration", iteration}};
    if (op.group >= 0) {
      arguments["group"] = op.group;
    }
    if (full.ops[i].ran()) {
      events.push_back({full.ops[i].start_ns,
                        full.ops[i].end_ns,
                        file.rank(),
                        op.lane == "comm" ? kCommThread : kComputeThread,
                        name_of(op),
                        op.lane,
                        arguments});
    }
    if (profile.enqueued_ns[i] >= 0 && profile.hand_off_wait_ns[i] > 0) {
      events.push_back({profile.enqueued_ns[i] - profile.hand_off_wait_ns[i],
                        profile.enqueued_ns[i],
                        file.rank(),
                        kFirstHandOffThread + op.ubatch,
                        "hand-off to " + name_of(op),
                        "hand_off",
                        arguments});
    }
  }
}

std::vector<Event> collect(const PolicyFolder& folder) {
  std::vector<Event> events;
  for (const RankEntry& entry : folder.ranks()) {
    if (!entry.file.has_value()) {
      continue;
    }
    const RankFile& file = *entry.file;
    const std::vector<ScheduleRecord> schedules = file.schedules();
    const std::vector<RecordedProfile> profiles = read_profiles(file);
    for (std::size_t i = 0; i < profiles.size(); ++i) {
      if (!profiles[i].ran()) {
        continue;
      }
      const ScheduleRecord& schedule = schedules[static_cast<std::size_t>(profiles[i].schedule)];
      const RecordedSpan step = profiles[i].pass(ProfilePass::full).step;
      events.push_back({step.start_ns,
                        step.end_ns,
                        file.rank(),
                        kStepThread,
                        "step " + std::to_string(i) + " " + schedule.name,
                        "step",
                        {{"iteration", i}, {"schedule", schedule.name}}});
      add_ops(file, schedule, profiles[i], i, events);
    }
  }
  // At equal starts the longer first, so that viewers nest rather than overlap.
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return std::tie(a.start_ns, a.process, a.thread, b.end_ns) <
           std::tie(b.start_ns, b.process, b.thread, a.end_ns);
  });
  return events;
}

Json metadata(const char* what, std::int64_t process, int thread, Json arguments) {
  return {{"name", what},
          {"ph", "M"},
          {"pid", process},
          {"tid", thread},
          {"args", std::move(arguments)}};
}

/// Names of processes and of the threads that have events.
std::vector<Json> names_of(const PolicyFolder& folder, const std::vector<Event>& events) {
  std::vector<Json> lines;
  for (const RankEntry& entry : folder.ranks()) {
    if (!entry.file.has_value()) {
      continue;
    }
    const std::string host = entry.file->text(attribute::kHost);
    const std::string link = entry.file->link();
    const std::string device = entry.file->text(attribute::kDevice);
    const bool on_gpu = device.starts_with(to_string(DeviceKind::cuda));
    lines.push_back(
        metadata("process_name",
                 entry.rank,
                 0,
                 {{"name",
                   "rank " + std::to_string(entry.rank) + (host.empty() ? "" : " on " + host) +
                       (on_gpu ? " (" + device + ")" : "") +
                       (link == kNoLink ? "" : " (link " + link + ")")}}));
    lines.push_back(metadata("process_sort_index", entry.rank, 0, {{"sort_index", entry.rank}}));
    int last_thread = -1;
    for (const Event& event : events) {
      last_thread = event.process == entry.rank ? std::max(last_thread, event.thread) : last_thread;
    }
    for (int thread = 0; thread <= last_thread; ++thread) {
      const std::string name =
          thread == kStepThread      ? "steps"
          : thread == kComputeThread ? (on_gpu ? "compute stream" : "compute lane")
          : thread == kCommThread
              ? (on_gpu ? "comm stream" : "comm lane")
              : "hand-off waits of ubatch " + std::to_string(thread - kFirstHandOffThread);
      lines.push_back(metadata("thread_name", entry.rank, thread, {{"name", name}}));
      lines.push_back(metadata("thread_sort_index", entry.rank, thread, {{"sort_index", thread}}));
    }
  }
  return lines;
}

/// The link of the ranks, which is the same on all of them.
std::string link_of(const PolicyFolder& folder) {
  for (const RankEntry& entry : folder.ranks()) {
    if (entry.file.has_value()) {
      return entry.file->link();
    }
  }
  return kNoLink;
}

/// By rank: how far its times may be off rank 0's clock.
Json clock_errors_of(const PolicyFolder& folder) {
  Json errors = Json::object();
  for (const RankEntry& entry : folder.ranks()) {
    if (entry.file.has_value()) {
      errors["rank " + std::to_string(entry.rank)] = entry.file->clock_error_ns();
    }
  }
  return errors;
}

double microseconds(std::int64_t ns) {
  return static_cast<double>(ns) / 1000;
}

}  // namespace

std::string chrome_trace(const PolicyFolder& folder) {
  const std::vector<Event> events = collect(folder);
  const std::int64_t origin = events.empty() ? 0 : events.front().start_ns;
  std::string text =
      "{\"displayTimeUnit\": \"ns\", \"otherData\": " +
      Json{{"link", link_of(folder)}, {"clock_error_ns", clock_errors_of(folder)}}.dump() +
      ", \"traceEvents\": [";
  const char* separator = "\n";
  const auto add_line = [&](const Json& line) {
    text += separator + line.dump();
    separator = ",\n";
  };
  for (const Json& line : names_of(folder, events)) {
    add_line(line);
  }
  for (const Event& event : events) {
    add_line({{"name", event.name},
              {"cat", event.category},
              {"ph", "X"},
              {"ts", microseconds(event.start_ns - origin)},
              {"dur", microseconds(event.end_ns - event.start_ns)},
              {"pid", event.process},
              {"tid", event.thread},
              {"args", event.arguments}});
  }
  return text + "\n]}\n";
}

void write_chrome_trace(const std::filesystem::path& policy_dir,
                        const std::filesystem::path& file) {
  write_file_atomically(file, chrome_trace(PolicyFolder(policy_dir)));
}

}  // namespace dovetail
