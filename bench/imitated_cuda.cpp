// A GPU that torch's C++ believes in, on a machine without one: streams and events with numbers, and "pinned" memory.
// bench/spy.py compiles and loads it, and keeps the numbers of the tensors in the memory of the host.

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace {

const c10::Device kDevice(c10::DeviceType::CUDA, 0);

// What happens to a stream is told to Python: kind, event, stream. Kinds as in bench/spy.py
enum Kind { kRecord = 0, kStreamWaits = 1, kHostWaitsForEvent = 2, kHostWaitsForStream = 3 };
using Told = void (*)(int kind, int64_t event, int64_t stream);
std::atomic<Told> told{nullptr};

void tell(int kind, int64_t event, int64_t stream) {
  if (Told say = told.load()) say(kind, event, stream);
}

thread_local c10::StreamId current = 0;
std::atomic<int64_t> n_streams{0}, n_events{0};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream stream(c10::StreamId id) const { return c10::Stream(c10::Stream::UNSAFE, kDevice, id); }
  c10::Stream getStream(c10::Device) const override { return stream(current); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(0); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(++n_streams); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(++n_streams); }
  c10::Stream exchangeStream(c10::Stream other) const override {
    c10::Stream before = stream(current);
    current = other.id();
    return before;
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream& waited) const override { tell(kHostWaitsForStream, 0, waited.id()); }
  void synchronizeDevice(const c10::DeviceIndex) const override { tell(kHostWaitsForStream, 0, -1); }

  void record(void** event, const c10::Stream& on, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (*event == nullptr) *event = reinterpret_cast<void*>(++n_events);
    tell(kRecord, reinterpret_cast<int64_t>(*event), on.id());
  }
  void block(void* event, const c10::Stream& waiting) const override {
    if (event != nullptr) tell(kStreamWaits, reinterpret_cast<int64_t>(event), waiting.id());
  }
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) tell(kHostWaitsForEvent, reinterpret_cast<int64_t>(event), 0);
  }
};

// Memory of the host that is remembered as pinned
std::mutex lock;
std::map<const char*, size_t> pinned;

void unpin(void* data) {
  std::lock_guard<std::mutex> held(lock);
  pinned.erase(static_cast<const char*>(data));
  std::free(data);
}

struct PinnedMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    void* data = std::aligned_alloc(4096, (std::max<size_t>(n, 1) + 4095) / 4096 * 4096);
    std::lock_guard<std::mutex> held(lock);
    pinned[static_cast<const char*>(data)] = n;
    return {data, data, &unpin, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &unpin; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
};

PinnedMemory pinned_memory;

// Without fields: it is constructed in the place of torch's own
struct Hooks final : at::CUDAHooksInterface {
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex current_device() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  void deviceSynchronize(c10::DeviceIndex) const override { tell(kHostWaitsForStream, 0, -1); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  bool isPinnedPtr(const void* data) const override {
    std::lock_guard<std::mutex> held(lock);
    auto after = pinned.upper_bound(static_cast<const char*>(data));
    if (after == pinned.begin()) return false;
    --after;
    return static_cast<const char*>(data) < after->first + after->second;
  }
};
static_assert(sizeof(Hooks) == sizeof(at::CUDAHooksInterface));

Guard guard;

}  // namespace

// torch looks both up once and keeps what was there, so what is there is changed
extern "C" void imitate(int on, Told say) {
  constexpr auto cuda = static_cast<size_t>(c10::DeviceType::CUDA);
  auto* hooks = const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks());
  told.store(on ? say : nullptr);
  c10::impl::device_guard_impl_registry[cuda].store(on ? &guard : nullptr);
  if (on) {
    new (hooks) Hooks();
  } else {
    new (hooks) at::CUDAHooksInterface();
  }
}
extern "C" int64_t current_stream() { return current; }
