#include "deflate.h"

#include <algorithm>
#include <cstring>

#include "vectorised.h"

namespace paraffin {
namespace {

// RFC 1951: literals, the end of the block, and lengths of matches.
constexpr int kSymbols = 286;
constexpr int kEnd = 256;
constexpr int kLengthMax = 15;
constexpr int kCodeSymbols = 19;
constexpr int kCodeLengthMax = 7;
constexpr uint8_t kCodeOrder[kCodeSymbols] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
constexpr size_t kMatchMin = 3;
constexpr size_t kMatchMax = 258;
/** Zeros that begin a run: a whole word. */
constexpr size_t kRunMin = 8;

struct Match {
  int symbol;
  int extraBits;
  int extra;
};

/** Of a length from kMatchMin to kMatchMax. */
Match matchOf(size_t length) {
  if (length == kMatchMax) return {285, 0, 0};
  const int rest = static_cast<int>(length - kMatchMin);
  if (rest < 8) return {257 + rest, 0, 0};
  const int extraBits = 29 - __builtin_clz(rest);
  return {257 + 4 * extraBits + (rest >> extraBits), extraBits, rest & ((1 << extraBits) - 1)};
}

uint64_t wordAt(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

/** Passes each literal to `one`, or three at once to `three`, and the length of each match with the zero before it. */
template <typename One, typename Three, typename Run>
inline __attribute__((always_inline)) void divide(const uint8_t* bytes, size_t byteSize, One one, Three three,
                                                  Run run) {
  size_t at = 0;
  while (at + kRunMin <= byteSize) {
    const uint64_t word = wordAt(bytes + at);
    // Each run that begins at one of the first three bytes covers the last six.
    if ((word >> 16) != 0) {
      three(bytes[at], bytes[at + 1], bytes[at + 2]);
      at += 3;
      continue;
    }
    one(bytes[at]);
    at += 1;
    if (word != 0) continue;
    size_t end = at + kRunMin - 1;
    while (end < byteSize && bytes[end] == 0) end += 1;
    while (end - at >= kMatchMin) {
      const size_t length = std::min(kMatchMax, end - at);
      run(length);
      at += length;
    }
    for (; at < end; at += 1) one(0);
  }
  for (; at < byteSize; at += 1) one(bytes[at]);
}

/**
 * Lengths of Huffman's code: 0 for what does not occur. Of two nodes of the same weight a symbol comes before an inner
 * node, and a symbol before later symbols. While a code is too long, all counts are halved.
 */
void lengthsOf(const uint32_t* given, int count, int lengthMax, uint8_t* lengths) {
  uint32_t counts[kSymbols];
  std::copy_n(given, count, counts);
  for (;;) {
    int symbols[kSymbols];
    int symbolCount = 0;
    for (int symbol = 0; symbol < count; symbol += 1)
      if (counts[symbol] > 0) symbols[symbolCount++] = symbol;
    std::stable_sort(symbols, symbols + symbolCount, [&](int a, int b) { return counts[a] < counts[b]; });
    // Leaves, then inner nodes, in the order of their weights.
    uint64_t weights[2 * kSymbols];
    int parents[2 * kSymbols];
    for (int leaf = 0; leaf < symbolCount; leaf += 1) weights[leaf] = counts[symbols[leaf]];
    int leaf = 0, inner = symbolCount;
    const int root = 2 * symbolCount - 2;
    for (int node = symbolCount; node <= root; node += 1) {
      weights[node] = 0;
      for (int child = 0; child < 2; child += 1) {
        const bool isLeaf = leaf < symbolCount && (inner == node || weights[leaf] <= weights[inner]);
        const int least = isLeaf ? leaf++ : inner++;
        weights[node] += weights[least];
        parents[least] = node;
      }
    }
    int depths[2 * kSymbols];
    depths[root] = 0;
    for (int node = root - 1; node >= 0; node -= 1) depths[node] = depths[parents[node]] + 1;
    if (*std::max_element(depths, depths + symbolCount) <= lengthMax) {
      std::fill_n(lengths, count, 0);
      for (int each = 0; each < symbolCount; each += 1) lengths[symbols[each]] = static_cast<uint8_t>(depths[each]);
      return;
    }
    for (int symbol = 0; symbol < count; symbol += 1) counts[symbol] = (counts[symbol] + 1) / 2;
  }
}

struct Code {
  uint16_t bits;
  uint16_t length;
};

/** The canonical code of these lengths, its bits in the order in which they are written. */
void codesOf(const uint8_t* lengths, int count, Code* codes) {
  int perLength[kLengthMax + 1] = {};
  for (int symbol = 0; symbol < count; symbol += 1) perLength[lengths[symbol]] += 1;
  int next[kLengthMax + 2] = {};
  for (int length = 1; length <= kLengthMax; length += 1)
    next[length + 1] = (next[length] + perLength[length]) << 1;
  for (int symbol = 0; symbol < count; symbol += 1) {
    const int length = lengths[symbol];
    int reversed = 0;
    if (length > 0)
      for (int bit = 0, value = next[length]++; bit < length; bit += 1, value >>= 1)
        reversed = reversed << 1 | (value & 1);
    codes[symbol] = {static_cast<uint16_t>(reversed), static_cast<uint16_t>(length)};
  }
}

class BitWriter {
 public:
  explicit BitWriter(uint8_t* target) : target_(target) {}

  /** At most 56 bits between two calls of `flush`. */
  void put(uint64_t bits, int count) {
    waiting_ |= bits << count_;
    count_ += count;
  }
  void put(const Code& code) { put(code.bits, code.length); }

  /** Writes eight bytes, of which the whole ones count. */
  void flush() {
    memcpy(target_, &waiting_, sizeof waiting_);
    target_ += count_ >> 3;
    waiting_ >>= count_ & ~7;
    count_ &= 7;
  }

  /** Fills the last byte. @returns its end. */
  uint8_t* finish() {
    count_ = (count_ + 7) & ~7;
    flush();
    return target_;
  }

 private:
  uint8_t* target_;
  uint64_t waiting_ = 0;
  int count_ = 0;
};

}  // namespace

size_t deflateBlock(const uint8_t* bytes, size_t byteSize, bool isLast, uint8_t* target) {
  // Three tables, because adding to a number that was just added to waits for it.
  uint32_t counts[3][kSymbols] = {};
  divide(
      bytes, byteSize, [&](uint8_t byte) { counts[0][byte] += 1; },
      [&](uint8_t first, uint8_t second, uint8_t third) {
        counts[0][first] += 1;
        counts[1][second] += 1;
        counts[2][third] += 1;
      },
      [&](size_t length) { counts[0][matchOf(length).symbol] += 1; });
  for (int symbol = 0; symbol < kSymbols; symbol += 1) counts[0][symbol] += counts[1][symbol] + counts[2][symbol];
  counts[0][kEnd] = 1;

  uint8_t lengths[kSymbols];
  Code codes[kSymbols];
  lengthsOf(counts[0], kSymbols, kLengthMax, lengths);
  codesOf(lengths, kSymbols, codes);
  // One code of distances, 1, which has one bit.
  uint32_t lengthCounts[kCodeSymbols] = {0, 1};
  for (const uint8_t length : lengths) lengthCounts[length] += 1;
  uint8_t codeLengths[kCodeSymbols];
  Code codeCodes[kCodeSymbols];
  lengthsOf(lengthCounts, kCodeSymbols, kCodeLengthMax, codeLengths);
  codesOf(codeLengths, kCodeSymbols, codeCodes);

  BitWriter writer(target);
  writer.put(isLast ? 1 : 0, 1);
  writer.put(2, 2);
  writer.put(kSymbols - 257, 5);
  writer.put(0, 5);
  writer.put(kCodeSymbols - 4, 4);
  writer.flush();
  for (const uint8_t symbol : kCodeOrder) {
    writer.put(codeLengths[symbol], 3);
    writer.flush();
  }
  for (const uint8_t length : lengths) {
    writer.put(codeCodes[length]);
    writer.flush();
  }
  writer.put(codeCodes[1]);
  writer.flush();
  divide(
      bytes, byteSize,
      [&](uint8_t byte) {
        writer.put(codes[byte]);
        writer.flush();
      },
      [&](uint8_t first, uint8_t second, uint8_t third) {
        writer.put(codes[first]);
        writer.put(codes[second]);
        writer.put(codes[third]);
        writer.flush();
      },
      [&](size_t length) {
        const Match match = matchOf(length);
        writer.put(codes[match.symbol]);
        writer.put(match.extra, match.extraBits);
        // The distance.
        writer.put(0, 1);
        writer.flush();
      });
  writer.put(codes[kEnd]);
  writer.flush();
  // An empty stored block, after which a byte begins.
  if (!isLast) {
    writer.put(0, 3);
    uint8_t* const end = writer.finish();
    constexpr uint8_t kEmpty[] = {0, 0, 0xff, 0xff};
    std::copy(kEmpty, kEmpty + sizeof kEmpty, end);
    return end + sizeof kEmpty - target;
  }
  return writer.finish() - target;
}

namespace {

/** @param byteSize at most kAdlerBytes, so that no sum exceeds 32 bits. */
VECTORISED void addToSums(const uint8_t* bytes, int byteSize, uint32_t& sum, uint32_t& sumOfSums) {
  uint32_t plain = 0, weighted = 0;
  for (int at = 0; at < byteSize; at += 1) {
    plain += bytes[at];
    weighted += static_cast<uint32_t>(byteSize - at) * bytes[at];
  }
  sumOfSums += sum * byteSize + weighted;
  sum += plain;
}

constexpr uint32_t kAdlerModulus = 65521;
constexpr size_t kAdlerBytes = 4096;

}  // namespace

uint32_t adler32(uint32_t checksum, const uint8_t* bytes, size_t byteSize) {
  uint32_t sum = checksum & 0xffff, sumOfSums = checksum >> 16;
  for (size_t at = 0; at < byteSize; at += kAdlerBytes) {
    addToSums(bytes + at, static_cast<int>(std::min(kAdlerBytes, byteSize - at)), sum, sumOfSums);
    sum %= kAdlerModulus;
    sumOfSums %= kAdlerModulus;
  }
  return sumOfSums << 16 | sum;
}

}  // namespace paraffin
