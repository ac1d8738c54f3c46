// The decoder as Node loads it: decodes plain JPEGs and PNGs in the threads of libuv's pool.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <memory>
#include <unistd.h>

#include <node_api.h>

#include "pixels.h"
#include "reduce.h"

namespace paraffin {
namespace {

/** See SquareRule of workers/engine/data/stored-decoder.ts. */
struct SquareRule {
  int sizePx;
  bool isFast;
  bool isStretched;
};

double leastFactor(Size size, const SquareRule& rule) {
  return std::min(size.width / double(rule.sizePx), size.height / double(rule.sizePx));
}

/** sharp's rule: an exact multiple is shrunk by half as much. */
int shrinkOf(Size size, const SquareRule& rule) {
  const double factor = leastFactor(size, rule);
  const int kept = rule.isFast ? 1 : 2;
  for (int shrink = 8; shrink > 1; shrink /= 2)
    if (factor >= shrink * kept) return static_cast<int>(factor) == shrink ? shrink / 2 : shrink;
  return 1;
}

struct Factors {
  double horizontal;
  double vertical;
};

Factors factorsOf(Size size, const SquareRule& rule) {
  if (rule.isStretched) return {size.width / double(rule.sizePx), size.height / double(rule.sizePx)};
  const double factor = leastFactor(size, rule);
  return {factor, factor};
}

bool isReducible(Size size, const SquareRule& rule) {
  const Factors factors = factorsOf(size, rule);
  const auto canBe = [](int sourcePx, double factor) {
    return factor == 1 || canReduce(sourcePx, static_cast<int>(sourcePx / factor + 0.5), factor);
  };
  return canBe(size.width, factors.horizontal) && canBe(size.height, factors.vertical);
}

/** Decodes what `reduce` can reduce to the square of the rule. */
class SquareRequest : public Request {
 public:
  SquareRequest(const SquareRule& rule, Pixels& pixels) : rule_(rule), pixels_(pixels) {}

  int shrinkFor(Size size, bool isJpeg) override {
    const int shrink = isJpeg ? shrinkOf(size, rule_) : 1;
    // libvips leaves out a last column or row that is not whole.
    if (size.width % shrink != 0 || size.height % shrink != 0) return 0;
    return isReducible({size.width / shrink, size.height / shrink}, rule_) ? shrink : 0;
  }

  uint8_t* roomFor(Size size) override {
    pixels_.width = size.width;
    pixels_.height = size.height;
    pixels_.data.resize(size_t{3} * size.width * size.height);
    return pixels_.data.data();
  }

 private:
  const SquareRule& rule_;
  Pixels& pixels_;
};

bool decodeSquare(const std::vector<uint8_t>& bytes, const SquareRule& rule, Pixels& pixels) {
  SquareRequest request(rule, pixels);
  const bool isJpeg = bytes.size() > 1 && bytes[0] == 0xff && bytes[1] == 0xd8;
  const bool isDecoded =
      isJpeg ? decodeJpeg(bytes.data(), bytes.size(), request) : decodePng(bytes.data(), bytes.size(), request);
  if (!isDecoded) return false;
  const Factors factors = factorsOf({pixels.width, pixels.height}, rule);
  reduce(pixels, factors.horizontal, factors.vertical);
  return pixels.width >= rule.sizePx && pixels.height >= rule.sizePx;
}

bool readFully(int file, uint8_t* target, size_t byteCount, off_t position) {
  while (byteCount > 0) {
    const ssize_t count = pread(file, target, byteCount, position);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    target += count;
    byteCount -= count;
    position += count;
  }
  return true;
}

bool writeFully(int file, const uint8_t* source, size_t byteCount, off_t position) {
  while (byteCount > 0) {
    const ssize_t count = pwrite(file, source, byteCount, position);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    source += count;
    byteCount -= count;
    position += count;
  }
  return true;
}

/** Writes the centre square. */
bool writeSquare(const Pixels& pixels, int sizePx, int file, off_t position) {
  const size_t rowBytes = size_t{3} * sizePx;
  const int left = (pixels.width - sizePx + 1) / 2;
  const int top = (pixels.height - sizePx + 1) / 2;
  const uint8_t* first = pixels.data.data() + (size_t{3} * pixels.width * top + size_t{3} * left);
  if (pixels.width == sizePx) return writeFully(file, first, rowBytes * sizePx, position);
  std::vector<uint8_t> square(rowBytes * sizePx);
  for (int row = 0; row < sizePx; row += 1)
    std::copy_n(first + size_t{3} * pixels.width * row, rowBytes, square.data() + rowBytes * row);
  return writeFully(file, square.data(), square.size(), position);
}

struct Work {
  int encodedFile;
  off_t encodedPosition;
  size_t encodedSize;
  int pixelFile;
  off_t pixelPosition;
  SquareRule rule;
  bool isDone = false;
  napi_async_work handle = nullptr;
  napi_deferred deferred = nullptr;
};

void execute(napi_env, void* data) {
  Work& work = *static_cast<Work*>(data);
  thread_local std::vector<uint8_t> encoded;
  thread_local Pixels pixels;
  encoded.resize(work.encodedSize);
  work.isDone = readFully(work.encodedFile, encoded.data(), work.encodedSize, work.encodedPosition) &&
                decodeSquare(encoded, work.rule, pixels) &&
                writeSquare(pixels, work.rule.sizePx, work.pixelFile, work.pixelPosition);
  keepIfSmall(encoded);
  keepIfSmall(pixels.data);
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Work> work(static_cast<Work*>(data));
  napi_value isDone;
  napi_get_boolean(env, work->isDone, &isDone);
  napi_resolve_deferred(env, work->deferred, isDone);
  napi_delete_async_work(env, work->handle);
}

/** decodeSquare(encodedFile, position, byteSize, pixelFile, position, sizePx, isFast, isStretched): Promise<boolean> */
napi_value startSquare(napi_env env, napi_callback_info info) {
  constexpr size_t kCount = 8;
  size_t count = kCount;
  napi_value values[kCount];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  double numbers[6];
  bool flags[2];
  bool isValid = count == kCount;
  for (int each = 0; isValid && each < 6; each += 1)
    isValid = napi_get_value_double(env, values[each], &numbers[each]) == napi_ok;
  for (int each = 0; isValid && each < 2; each += 1)
    isValid = napi_get_value_bool(env, values[6 + each], &flags[each]) == napi_ok;
  if (!isValid) {
    napi_throw_type_error(env, nullptr, "decodeSquare takes six numbers and two booleans");
    return nullptr;
  }
  auto work = std::make_unique<Work>();
  work->encodedFile = static_cast<int>(numbers[0]);
  work->encodedPosition = static_cast<off_t>(numbers[1]);
  work->encodedSize = static_cast<size_t>(numbers[2]);
  work->pixelFile = static_cast<int>(numbers[3]);
  work->pixelPosition = static_cast<off_t>(numbers[4]);
  work->rule = {static_cast<int>(numbers[5]), flags[0], flags[1]};
  napi_value promise;
  napi_create_promise(env, &work->deferred, &promise);
  napi_value name;
  napi_create_string_utf8(env, "decodeSquare", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, execute, complete, work.get(), &work->handle);
  napi_queue_async_work(env, work->handle);
  work.release();
  return promise;
}

/** Decodes an image of the expected size as it is, into memory of the caller. */
class WholeRequest : public Request {
 public:
  WholeRequest(Size size, uint8_t* room) : size_(size), room_(room) {}
  int shrinkFor(Size size, bool) override {
    return size.width == size_.width && size.height == size_.height ? 1 : 0;
  }
  uint8_t* roomFor(Size) override { return room_; }

 private:
  const Size size_;
  uint8_t* const room_;
};

/** decodeJpeg(bytes, width, height, target): boolean */
napi_value decodeWholeJpeg(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value values[4];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  void *bytes, *target;
  size_t byteSize, targetSize;
  Size size;
  if (count != 4 || napi_get_buffer_info(env, values[0], &bytes, &byteSize) != napi_ok ||
      napi_get_value_int32(env, values[1], &size.width) != napi_ok ||
      napi_get_value_int32(env, values[2], &size.height) != napi_ok ||
      napi_get_buffer_info(env, values[3], &target, &targetSize) != napi_ok || size.width < 1 || size.height < 1 ||
      int64_t{size.width} * size.height * 3 != static_cast<int64_t>(targetSize)) {
    napi_throw_type_error(env, nullptr, "decodeJpeg takes bytes, width, height, and a buffer of width x height x 3");
    return nullptr;
  }
  WholeRequest request(size, static_cast<uint8_t*>(target));
  napi_value isDone;
  napi_get_boolean(env, decodeJpeg(static_cast<const uint8_t*>(bytes), byteSize, request), &isDone);
  return isDone;
}

napi_value init(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"decodeSquare", nullptr, startSquare, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"decodeJpeg", nullptr, decodeWholeJpeg, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, 2, functions);
  return exports;
}

}  // namespace
}  // namespace paraffin

NAPI_MODULE(NODE_GYP_MODULE_NAME, paraffin::init)
