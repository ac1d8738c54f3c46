#include "threads.h"

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace paraffin {
namespace {

/**
 * The number of threads that TensorFlow uses for one op: the value of its environment variable, otherwise the number of
 * processors that this process may use.
 */
int threadCount() {
  const char* wanted = std::getenv("TF_NUM_INTRAOP_THREADS");
  const int count = wanted == nullptr ? 0 : std::atoi(wanted);
  if (count > 0) return count;
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

class ThreadPool {
 public:
  ThreadPool() : helperCount_(threadCount() - 1) {
    for (int helper = 0; helper < helperCount_; helper += 1) std::thread([this] { help(); }).detach();
  }

  void run(int unitCount, UnitOfWork work, void* context) {
    if (helperCount_ == 0 || unitCount == 1) {
      for (int unit = 0; unit < unitCount; unit += 1) work(context, unit);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = work;
      context_ = context;
      unitCount_ = unitCount;
      nextUnit_ = 0;
      busyHelperCount_ = helperCount_;
      round_ += 1;
    }
    wake_.notify_all();
    takeUnits();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busyHelperCount_ == 0; });
  }

 private:
  void takeUnits() {
    for (int unit; (unit = nextUnit_.fetch_add(1)) < unitCount_;) work_(context_, unit);
  }

  void help() {
    unsigned long seenRound = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return round_ != seenRound; });
      seenRound = round_;
      lock.unlock();
      takeUnits();
      lock.lock();
      busyHelperCount_ -= 1;
      if (busyHelperCount_ == 0) done_.notify_one();
    }
  }

  const int helperCount_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  UnitOfWork work_ = nullptr;
  void* context_ = nullptr;
  int unitCount_ = 0;
  std::atomic<int> nextUnit_{0};
  int busyHelperCount_ = 0;
  unsigned long round_ = 0;
};

}  // namespace

void runUnits(int unitCount, UnitOfWork work, void* context) {
  // Never freed, because its threads wait on it until the process ends.
  static ThreadPool* const threads = new ThreadPool;
  threads->run(unitCount, work, context);
}

}  // namespace paraffin
