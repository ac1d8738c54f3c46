// Plain PNGs through libpng.
#include <csetjmp>
#include <cstring>

#include <png.h>

#include "pixels.h"

namespace paraffin {
namespace {

struct Source {
  const uint8_t* bytes;
  size_t left;
};

void readSome(png_structp png, png_bytep target, size_t byteCount) {
  Source& source = *static_cast<Source*>(png_get_io_ptr(png));
  if (byteCount > source.left) png_error(png, "the file ends");
  memcpy(target, source.bytes, byteCount);
  source.bytes += byteCount;
  source.left -= byteCount;
}

void leave(png_structp png, png_const_charp) { png_longjmp(png, 1); }

bool isPlain(png_structp png, png_infop info) {
  return png_get_bit_depth(png, info) == 8 && png_get_color_type(png, info) == PNG_COLOR_TYPE_RGB &&
         png_get_interlace_type(png, info) == PNG_INTERLACE_NONE &&
         (png_get_valid(png, info, PNG_INFO_tRNS | PNG_INFO_iCCP) == 0) &&
         int64_t{png_get_image_width(png, info)} * png_get_image_height(png, info) <= kPixelsMax;
}

}  // namespace

bool decodePng(const uint8_t* bytes, size_t byteSize, Request& request) {
  Source source{bytes, byteSize};
  // A warning ends the decoding as well: what to make of a damaged image is the caller's decision.
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, leave, leave);
  if (png == nullptr) return false;
  png_infop info = png_create_info_struct(png);
  if (info == nullptr || setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  png_set_read_fn(png, &source, readSome);
  png_read_info(png, info);
  const Size size{static_cast<int>(png_get_image_width(png, info)), static_cast<int>(png_get_image_height(png, info))};
  if (!isPlain(png, info) || request.shrinkFor(size, false) == 0) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  const size_t rowBytes = size_t{3} * size.width;
  uint8_t* const room = request.roomFor(size);
  for (int row = 0; row < size.height; row += 1) png_read_row(png, room + rowBytes * row, nullptr);
  png_read_end(png, nullptr);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

}  // namespace paraffin
