// Decoded pixels, and the decoders that fill them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace paraffin {

/** RGB, uint8, rows without padding; `data` may be longer. */
struct Pixels {
  std::vector<uint8_t> data;
  int width = 0;
  int height = 0;
};

struct Size {
  int width;
  int height;
};

/** What to make of an image, decided once its header is read. */
struct Request {
  /**
   * @param size by the header.
   * @returns by how much the JPEG decoder should shrink while it decodes: 1, 2, 4 or 8; 0 refuses the image.
   */
  virtual int shrinkFor(Size size, bool isJpeg) = 0;
  /** @returns room for RGB, uint8, `[height, width, 3]`. */
  virtual uint8_t* roomFor(Size size) = 0;

 protected:
  ~Request() = default;
};

/**
 * Both decode only what every decoder decodes alike, so that the pixels are those of libvips: baseline JPEGs of 8 bits
 * with YCbCr in 4:4:4, 4:2:2 or 4:2:0, and PNGs of 8-bit RGB that are not interlaced; without a colour profile and
 * without a single warning of the library.
 * @returns false for any other image; what is in the room is then undefined.
 */
bool decodeJpeg(const uint8_t* bytes, size_t byteSize, Request& request);
bool decodePng(const uint8_t* bytes, size_t byteSize, Request& request);

/** How a TIFF stores the JPEGs of its tiles (TIFF technical note 2). */
struct TileCoding {
  /** JPEGTables, which all tiles share; none if it has no bytes. */
  const uint8_t* tables;
  size_t tablesByteSize;
  /** By PhotometricInterpretation, whatever the markers of the JPEG say; otherwise RGB. */
  bool isYcbcr;
};

/**
 * Decodes one tile, with the pixels of OpenSlide: baseline, three components, chroma as above, without a warning.
 * @param size that the JPEG must have. @param room for RGB, uint8, `[height, width, 3]`.
 * @returns false for any other tile; what is in the room is then undefined.
 */
bool decodeJpegTile(const uint8_t* bytes, size_t byteSize, const TileCoding& coding, Size size, uint8_t* room);

/** More than any patch has; a larger image is left to the caller, which refuses it. */
constexpr int64_t kPixelsMax = 64 * 1024 * 1024;

/** A thread keeps its buffers for the next image, because the kernel takes long to clear new pages; but no large ones. */
inline void keepIfSmall(std::vector<uint8_t>& buffer) {
  constexpr size_t kKeptBytes = 4 * 1024 * 1024;
  if (buffer.capacity() > kKeptBytes) std::vector<uint8_t>().swap(buffer);
}

}  // namespace paraffin
