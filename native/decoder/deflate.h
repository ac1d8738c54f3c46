// The compression of patches, with the bytes of workers/imaging/decoder/deflate.ts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace paraffin {

/** Of `deflateBlock`, for so many bytes. */
constexpr size_t deflateRoomFor(size_t byteSize) { return 2 * byteSize + 1024; }

/**
 * See `DeflateBlock` of deflate.ts.
 * @param target room for `deflateRoomFor(byteSize)` bytes.
 * @returns the bytes written.
 */
size_t deflateBlock(const uint8_t* bytes, size_t byteSize, bool isLast, uint8_t* target);

/** Adler-32 (RFC 1950) of what `checksum` is of, and these bytes; that of nothing is 1. */
uint32_t adler32(uint32_t checksum, const uint8_t* bytes, size_t byteSize);

}  // namespace paraffin
