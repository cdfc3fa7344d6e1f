// The bench's own NBD client, for what fio's nbd engine cannot do: a write and its flush as one measured
// request, windows touched once each, sparse maps filled quickly, whole volumes trimmed, and a time line of
// the longest request. One connection, one thread, one kind of work; the result is one line of JSON on
// standard output.
//
//   nbd_client --socket PATH|--tcp-port N [--export NAME] [--name value]...    (options: the fields of
//   Options)
//
// It asks for simple replies, counts every error answer, and exits 1 when there was one.
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "handshake.h"
#include "histogram.h"
#include "pattern.h"
#include "stream.h"

namespace {

using namespace cellblock::bench;

constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kReplyMagic = 0x67446698;
constexpr size_t kReplyBytes = 16;
constexpr size_t kInputBytes = 512 << 10;

enum Command : uint16_t { kRead = 0, kWrite = 1, kDisconnect = 2, kFlush = 3, kTrim = 4, kWriteZeroes = 6 };

struct Options {
  std::string socket, export_name;
  uint64_t tcp_port = 0;           // of 127.0.0.1, in place of a socket
  std::string tls;                 // directory of certificates; empty: in clear
  std::string op = "read";         // read, write, mix (half and half), trim, zero
  std::string pattern = "random";  // sequential, random, distinct (random, each place once)
  uint64_t bytes = 4096;           // of one request
  uint64_t stride = 0;             // from one place to the next; 0: the bytes of a request
  uint64_t start = 0;              // first byte of the range
  uint64_t range = 0;              // bytes of the range; 0: up to the end of the export
  uint64_t requests = 0;           // stop after so many; 0: no such limit
  uint64_t runtime_ms = 0;         // stop after so long; 0: no such limit
  uint64_t depth = 1;              // requests in flight
  uint64_t flush_each = 0;         // 1: a write is done when its flush is done (depth 1)
  uint64_t flush_end = 0;          // 1: one flush after everything, inside the measured time
  uint64_t seed = 1;
  uint64_t timeline_ms = 0;         // width of a bin of the time line; 0: none
  uint64_t connect_timeout_ms = 0;  // keep trying to connect for so long
};

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t cpu_ns() {
  timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
}

Options parse_options(int argc, char** argv) {
  Options options;
  std::map<std::string, std::string*> strings = {{"--socket", &options.socket},
                                                 {"--export", &options.export_name},
                                                 {"--tls", &options.tls},
                                                 {"--op", &options.op},
                                                 {"--pattern", &options.pattern}};
  std::map<std::string, uint64_t*> numbers = {{"--tcp-port", &options.tcp_port},
                                              {"--bytes", &options.bytes},
                                              {"--stride", &options.stride},
                                              {"--start", &options.start},
                                              {"--range", &options.range},
                                              {"--requests", &options.requests},
                                              {"--runtime-ms", &options.runtime_ms},
                                              {"--depth", &options.depth},
                                              {"--flush-each", &options.flush_each},
                                              {"--flush-end", &options.flush_end},
                                              {"--seed", &options.seed},
                                              {"--timeline-ms", &options.timeline_ms},
                                              {"--connect-timeout-ms", &options.connect_timeout_ms}};
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) die(std::string(argv[i]) + " needs a value");
    if (auto text = strings.find(argv[i]); text != strings.end()) {
      *text->second = argv[i + 1];
    } else if (auto number = numbers.find(argv[i]); number != numbers.end()) {
      char* end;
      *number->second = strtoull(argv[i + 1], &end, 10);
      // strtoull takes a minus, and makes something huge of it.
      if (argv[i + 1][0] == '-' || end == argv[i + 1] || *end != 0) die(std::string(argv[i]) + " needs a number");
    } else {
      die(std::string("unknown option ") + argv[i]);
    }
  }
  if (options.socket.empty() == (options.tcp_port == 0)) die("one of --socket and --tcp-port is needed");
  if (options.tcp_port > 65535) die("--tcp-port is at most 65535");
  if (options.bytes == 0 && options.op != "trim" && options.op != "zero") die("--bytes must not be 0");
  if (options.depth == 0 || options.depth > 4096) die("--depth must be 1 to 4096");
  if (options.flush_each != 0 && options.depth != 1) die("--flush-each goes with --depth 1");
  if (options.requests == 0 && options.runtime_ms == 0) die("--requests or --runtime-ms is missing");
  return options;
}

int connect_within(const Options& options) {
  uint64_t deadline = now_ns() + options.connect_timeout_ms * 1000000;
  for (;;) {
    const bool local = !options.socket.empty();
    const int fd =
        local ? connect_unix(options.socket) : connect_loopback(static_cast<uint16_t>(options.tcp_port));
    if (fd >= 0) return fd;
    if (now_ns() >= deadline) die_errno(local ? options.socket : "port " + std::to_string(options.tcp_port));
    usleep(500);
  }
}

class Run {
 public:
  Run(Stream& stream, uint64_t export_bytes, const Options& options)
      : stream_(stream),
        options_(options),
        stride_(options.stride != 0 ? options.stride : options.bytes),
        range_(options.range != 0 ? options.range : export_bytes - std::min(export_bytes, options.start)),
        pattern_(Pattern::named(options.pattern), std::max<uint64_t>(1, places()), options.seed),
        payload_(options.bytes <= (32 << 20) ? options.bytes : 0),
        in_(kInputBytes),
        tags_(options.depth) {
    if (options.start + range_ > export_bytes || places() == 0) die("the range is not inside the export");
    uint64_t state = options.seed * 0x9E3779B97F4A7C15 + 1;
    for (auto& byte : payload_)
      byte = static_cast<char>((state = state * 6364136223846793005 + 1442695040888963407) >> 56);
    for (uint32_t tag = static_cast<uint32_t>(options.depth); tag-- > 0;) free_.push_back(tag);
  }

  void run() {
    started_ = now_ns();
    cpu_ns_ = cpu_ns();
    deadline_ = options_.runtime_ms != 0 ? started_ + options_.runtime_ms * 1000000 : UINT64_MAX;
    for (;;) {
      submit();
      if (free_.size() == options_.depth) break;
      transfer();
    }
    if (options_.flush_end != 0) {
      flushing_end_ = true;
      start_request(kFlush, 0, 0);
      while (free_.size() < options_.depth) transfer();
    }
    ended_ = now_ns();
    cpu_ns_ = cpu_ns() - cpu_ns_;
  }

  void print() const {
    double seconds = static_cast<double>(ended_ - started_) / 1e9;
    printf(
        "{\"requests\":%llu,\"errors\":%llu,\"seconds\":%.6f,\"started_ns\":%llu,\"ended_ns\":%llu,\"cpu_seconds\":%.6f,"
        "\"tls\":\"%s\",\"latency_ns\":{\"mean\":%.0f,\"p50\":%llu,\"p99\":%llu,\"p999\":%llu,\"max\":%llu}",
        ull(done_), ull(errors_), seconds, ull(started_), ull(ended_),
        static_cast<double>(cpu_ns_) / 1e9, stream_.tls_parameters().c_str(),
        latency_.mean(), ull(latency_.at(0.5)), ull(latency_.at(0.99)), ull(latency_.at(0.999)),
        ull(latency_.max()));
    if (options_.timeline_ms != 0) {
      print_bins("completed", [](const Bin& bin) { return bin.completed; });
      print_bins("longest_ns", [](const Bin& bin) { return bin.longest_ns; });
    }
    printf(",\"histogram\":[");
    const char* separator = "";
    latency_.each([&](uint64_t upper_ns, uint64_t count) {
      printf("%s[%llu,%llu]", separator, ull(upper_ns), ull(count));
      separator = ",";
    });
    puts("]}");
  }

  uint64_t errors() const { return errors_; }

 private:
  struct Tag {
    uint64_t started_ns;
    uint16_t command;
  };
  // A request counts in the bin in which it ended; `longest_ns` is the longest of those.
  struct Bin {
    uint64_t completed = 0, longest_ns = 0;
  };

  static unsigned long long ull(uint64_t value) { return value; }

  template <typename Of>
  void print_bins(const char* name, Of of) const {
    printf(",\"%s\":[", name);
    for (size_t i = 0; i < bins_.size(); ++i) printf("%s%llu", i == 0 ? "" : ",", ull(of(bins_[i])));
    printf("]");
  }

  uint64_t places() const { return range_ < options_.bytes ? 0 : (range_ - options_.bytes) / stride_ + 1; }

  bool may_start(uint64_t now) const {
    return !stopped_ && now < deadline_ && (options_.requests == 0 || begun_ < options_.requests);
  }

  uint16_t next_command() {
    if (options_.op == "mix")
      return (mix_state_ = mix_state_ * 6364136223846793005 + 1442695040888963407) >> 63;
    if (options_.op == "read") return kRead;
    if (options_.op == "write") return kWrite;
    return options_.op == "trim" ? kTrim : kWriteZeroes;
  }

  void submit() {
    while (!free_.empty()) {
      uint64_t now = now_ns();
      if (!may_start(now)) return;
      uint64_t place;
      if (!pattern_.next(&place)) {
        stopped_ = true;
        return;
      }
      ++begun_;
      start_request(next_command(), options_.start + place * stride_, now);
    }
  }

  void start_request(uint16_t command, uint64_t offset, uint64_t now) {
    uint32_t tag = free_.back();
    free_.pop_back();
    tags_[tag] = {now != 0 ? now : now_ns(), command};
    append(command, tag, offset);
  }

  void append(uint16_t command, uint32_t tag, uint64_t offset) {
    put_be(out_, kRequestMagic, 4);
    put_be(out_, 0, 2);
    put_be(out_, command, 2);
    put_be(out_, tag, 8);
    put_be(out_, offset, 8);
    put_be(out_, command == kFlush ? 0 : options_.bytes, 4);
    if (command == kWrite) out_.append(payload_.data(), payload_.size());
  }

  // Sends and receives what can be without blocking, and waits when nothing can.
  void transfer() {
    bool moved = false;
    if (out_at_ < out_.size()) {
      ssize_t sent = stream_.send(out_.data() + out_at_, out_.size() - out_at_, Wait::no);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) die_errno("send");
      if (sent > 0) out_at_ += static_cast<size_t>(sent), moved = true;
      if (out_at_ == out_.size()) out_.clear(), out_at_ = 0;
    }
    // With everything sent there is nothing to do but wait for an answer: block in recv, no poll needed.
    const Wait wait = out_.empty() && !moved ? Wait::yes : Wait::no;
    ssize_t got = stream_.receive(in_.data() + in_end_, in_.size() - in_end_, wait);
    if (got == 0) die("the server closed the connection");
    if (got < 0 && errno != EAGAIN && errno != EINTR) die_errno("recv");
    if (got > 0) {
      in_end_ += static_cast<size_t>(got);
      parse();
    } else if (!moved) {
      pollfd waiting = {stream_.fd(), static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)), 0};
      poll(&waiting, 1, -1);
    }
  }

  void parse() {
    size_t at = 0;
    for (;;) {
      size_t skipped = std::min<size_t>(data_left_, in_end_ - at);
      at += skipped;
      data_left_ -= skipped;
      if (data_left_ > 0) break;
      if (data_tag_ != kNoTag) complete(data_tag_);
      data_tag_ = kNoTag;
      if (in_end_ - at < kReplyBytes) break;
      parse_header(in_.data() + at);
      at += kReplyBytes;
    }
    memmove(in_.data(), in_.data() + at, in_end_ - at);
    in_end_ -= at;
  }

  void parse_header(const uint8_t* header) {
    uint64_t tag = get_be(header + 8, 8);
    if (get_be(header, 4) != kReplyMagic || tag >= options_.depth) die("a reply that answers nothing");
    bool failed = get_be(header + 4, 4) != 0;
    errors_ += failed;
    data_tag_ = static_cast<uint32_t>(tag);
    data_left_ = !failed && tags_[tag].command == kRead ? options_.bytes : 0;
  }

  void complete(uint32_t tag) {
    if (options_.flush_each != 0 && tags_[tag].command == kWrite) {
      tags_[tag].command = kFlush;
      append(kFlush, tag, 0);
      return;
    }
    free_.push_back(tag);
    if (flushing_end_) return;
    uint64_t now = now_ns();
    uint64_t took = now - tags_[tag].started_ns;
    latency_.add(took);
    ++done_;
    if (options_.timeline_ms == 0) return;
    size_t bin = (now - started_) / (options_.timeline_ms * 1000000);
    if (bin >= bins_.size()) bins_.resize(bin + 1);
    bins_[bin].completed += 1;
    bins_[bin].longest_ns = std::max(bins_[bin].longest_ns, took);
  }

  static constexpr uint32_t kNoTag = UINT32_MAX;

  Stream& stream_;
  const Options& options_;
  uint64_t stride_, range_;
  Pattern pattern_;
  std::vector<char> payload_;
  std::string out_;
  size_t out_at_ = 0;
  std::vector<uint8_t> in_;
  size_t in_end_ = 0;
  uint32_t data_tag_ = kNoTag;
  uint64_t data_left_ = 0;
  std::vector<Tag> tags_;
  std::vector<uint32_t> free_;
  std::vector<Bin> bins_;
  Histogram latency_;
  uint64_t mix_state_ = 88172645463325252;
  uint64_t cpu_ns_ = 0;  // of this process, while it worked
  uint64_t started_ = 0, ended_ = 0, deadline_ = 0, begun_ = 0, done_ = 0, errors_ = 0;
  bool stopped_ = false, flushing_end_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  Options options = parse_options(argc, argv);
  Stream stream(connect_within(options));
  uint64_t size = Handshake(stream, options.export_name).run(options.tls);
  if (options.range == 0 && options.start <= size) options.range = size - options.start;
  Run run(stream, size, options);
  run.run();
  run.print();
  std::string bye;
  put_be(bye, kRequestMagic, 4);
  put_be(bye, kDisconnect, 4);
  put_be(bye, 0, 20);
  stream.send_all(bye);
  return run.errors() == 0 ? 0 : 1;
}
