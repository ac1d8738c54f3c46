// The decoder as Node loads it: decodes plain JPEGs and PNGs, in the threads of libuv's pool, and resamples patches.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <memory>
#include <unistd.h>

#include <node_api.h>

#include "deflate.h"
#include "patch.h"
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

struct Bytes {
  uint8_t* data = nullptr;
  size_t byteSize = 0;
};

bool readBytes(napi_env env, napi_value value, Bytes& bytes) {
  void* data;
  if (napi_get_buffer_info(env, value, &data, &bytes.byteSize) != napi_ok) return false;
  bytes.data = static_cast<uint8_t*>(data);
  return true;
}

/** decodeJpegTile(tables, bytes, isYcbcr, width, height, target): boolean */
napi_value decodeTile(napi_env env, napi_callback_info info) {
  size_t count = 6;
  napi_value values[6];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  Bytes tables, bytes, target;
  bool isYcbcr;
  Size size;
  if (count != 6 || !readBytes(env, values[0], tables) || !readBytes(env, values[1], bytes) ||
      napi_get_value_bool(env, values[2], &isYcbcr) != napi_ok ||
      napi_get_value_int32(env, values[3], &size.width) != napi_ok ||
      napi_get_value_int32(env, values[4], &size.height) != napi_ok || !readBytes(env, values[5], target) ||
      size.width < 1 || size.height < 1 || uint64_t{3} * size.width * size.height != target.byteSize) {
    napi_throw_type_error(env, nullptr, "decodeJpegTile takes tables, bytes, a size, and room for three bytes a pixel");
    return nullptr;
  }
  napi_value isDone;
  const TileCoding coding{tables.data, tables.byteSize, isYcbcr};
  napi_get_boolean(env, decodeJpegTile(bytes.data, bytes.byteSize, coding, size, target.data), &isDone);
  return isDone;
}

/** onBackground(bgra, red, green, blue, target) */
napi_value layRegionOnBackground(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value values[5];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  Bytes bgra, target;
  uint8_t background[3];
  bool isValid = count == 5 && readBytes(env, values[0], bgra) && readBytes(env, values[4], target) &&
                 bgra.byteSize % 4 == 0 && bgra.byteSize / 4 * 3 == target.byteSize;
  for (int channel = 0; isValid && channel < 3; channel += 1) {
    int32_t value;
    isValid = napi_get_value_int32(env, values[1 + channel], &value) == napi_ok && value >= 0 && value <= 255;
    background[channel] = static_cast<uint8_t>(value);
  }
  if (!isValid) {
    napi_throw_type_error(env, nullptr, "onBackground takes four bytes a pixel, a colour, and room for three a pixel");
    return nullptr;
  }
  layOnBackground(bgra.data, target.byteSize / 3, background, target.data);
  return nullptr;
}

bool readIntegers(napi_env env, napi_value value, const int32_t*& data, size_t& length) {
  bool isTyped;
  napi_typedarray_type type;
  void* numbers;
  if (napi_is_typedarray(env, value, &isTyped) != napi_ok || !isTyped ||
      napi_get_typedarray_info(env, value, &type, &length, &numbers, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array)
    return false;
  data = static_cast<const int32_t*>(numbers);
  return true;
}

/** @param sourcePx along the axis: every weight must lie on a pixel that exists. */
bool readWeights(napi_env env, napi_value first, napi_value weights, int sourcePx, Weights& read) {
  size_t count, weightCount;
  if (!readIntegers(env, first, read.first, count) || !readIntegers(env, weights, read.weights, weightCount) ||
      count < 1 || count > INT32_MAX || weightCount < count || weightCount % count != 0 ||
      weightCount / count > static_cast<size_t>(sourcePx))
    return false;
  read.count = static_cast<int>(count);
  read.tapCount = static_cast<int>(weightCount / count);
  const auto isInside = [&](int32_t start) { return start >= 0 && start <= sourcePx - read.tapCount; };
  return std::all_of(read.first, read.first + count, isInside);
}

/** mix(source, width, height, columns, columnWeights, rows, rowWeights, target) */
napi_value mixRegion(napi_env env, napi_callback_info info) {
  size_t count = 8;
  napi_value values[8];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  Bytes source, target;
  Size size;
  Weights columns, rows;
  if (count != 8 || !readBytes(env, values[0], source) || napi_get_value_int32(env, values[1], &size.width) != napi_ok ||
      napi_get_value_int32(env, values[2], &size.height) != napi_ok || size.width < 1 || size.height < 1 ||
      uint64_t{3} * size.width * size.height != source.byteSize ||
      !readWeights(env, values[3], values[4], size.width, columns) ||
      !readWeights(env, values[5], values[6], size.height, rows) || !readBytes(env, values[7], target) ||
      uint64_t{3} * columns.count * rows.count != target.byteSize) {
    napi_throw_type_error(env, nullptr, "mix takes a picture, weights within it, and room for the result");
    return nullptr;
  }
  mix(source.data, size.width, columns, rows, target.data);
  return nullptr;
}

/** measure(rgb, width, height): [penCount, laplacianSum, laplacianSquares] */
napi_value measurePatch(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value values[3];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  Bytes rgb;
  Size size;
  if (count != 3 || !readBytes(env, values[0], rgb) || napi_get_value_int32(env, values[1], &size.width) != napi_ok ||
      napi_get_value_int32(env, values[2], &size.height) != napi_ok || size.width < 1 || size.height < 1 ||
      uint64_t{3} * size.width * size.height != rgb.byteSize) {
    napi_throw_type_error(env, nullptr, "measure takes a picture, its width and its height");
    return nullptr;
  }
  const Measures measures = measure(rgb.data, size.width, size.height);
  napi_value numbers;
  napi_create_array_with_length(env, 3, &numbers);
  uint32_t place = 0;
  for (const int64_t value : {measures.penCount, measures.laplacianSum, measures.laplacianSquares}) {
    napi_value number;
    napi_create_double(env, static_cast<double>(value), &number);
    napi_set_element(env, numbers, place++, number);
  }
  return numbers;
}

/** filterRows(rgb, width, firstRow, target) */
napi_value filterPictureRows(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value values[4];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  Bytes rgb, target;
  int32_t width, firstRow;
  if (count != 4 || !readBytes(env, values[0], rgb) || napi_get_value_int32(env, values[1], &width) != napi_ok ||
      napi_get_value_int32(env, values[2], &firstRow) != napi_ok || !readBytes(env, values[3], target) || width < 1 ||
      width > INT32_MAX / 4 || firstRow < 0 || target.byteSize % (uint64_t{3} * width + 1) != 0 ||
      (firstRow + target.byteSize / (uint64_t{3} * width + 1)) * 3 * width > rgb.byteSize) {
    napi_throw_type_error(env, nullptr, "filterRows takes a picture, its width, a row, and room for rows from it on");
    return nullptr;
  }
  const int rowCount = static_cast<int>(target.byteSize / (size_t{3} * width + 1));
  filterRows(rgb.data, width, firstRow, rowCount, target.data);
  return nullptr;
}

/** deflateBlock(bytes, isLast, target): number */
napi_value deflateBytes(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value values[3];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  Bytes bytes, target;
  bool isLast;
  // Counts have 32 bits.
  if (count != 3 || !readBytes(env, values[0], bytes) || bytes.byteSize < 1 || bytes.byteSize > INT32_MAX ||
      napi_get_value_bool(env, values[1], &isLast) != napi_ok || !readBytes(env, values[2], target) ||
      target.byteSize < deflateRoomFor(bytes.byteSize)) {
    napi_throw_type_error(env, nullptr, "deflateBlock takes bytes, whether they are the last, and room for twice as many");
    return nullptr;
  }
  napi_value written;
  napi_create_double(env, static_cast<double>(deflateBlock(bytes.data, bytes.byteSize, isLast, target.data)), &written);
  return written;
}

/** adler32(checksum, bytes): number */
napi_value checksumBytes(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value values[2];
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  uint32_t checksum;
  Bytes bytes;
  if (count != 2 || napi_get_value_uint32(env, values[0], &checksum) != napi_ok || !readBytes(env, values[1], bytes)) {
    napi_throw_type_error(env, nullptr, "adler32 takes a checksum and bytes");
    return nullptr;
  }
  napi_value result;
  napi_create_uint32(env, adler32(checksum, bytes.data, bytes.byteSize), &result);
  return result;
}

napi_value init(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"decodeSquare", nullptr, startSquare, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"decodeJpeg", nullptr, decodeWholeJpeg, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"decodeJpegTile", nullptr, decodeTile, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"onBackground", nullptr, layRegionOnBackground, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"mix", nullptr, mixRegion, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"measure", nullptr, measurePatch, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"filterRows", nullptr, filterPictureRows, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"deflateBlock", nullptr, deflateBytes, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"adler32", nullptr, checksumBytes, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, std::size(functions), functions);
  return exports;
}

}  // namespace
}  // namespace paraffin

NAPI_MODULE(NODE_GYP_MODULE_NAME, paraffin::init)
