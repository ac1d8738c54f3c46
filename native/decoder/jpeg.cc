// Plain JPEGs through libjpeg-turbo.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include "pixels.h"

// Another libjpeg upsamples chroma by another rule.
#ifndef LIBJPEG_TURBO_VERSION
#error "libjpeg-turbo is needed"
#endif

namespace paraffin {
namespace {

struct ErrorManager {
  jpeg_error_mgr base;
  jmp_buf fatal;
};

void leave(j_common_ptr info) { longjmp(reinterpret_cast<ErrorManager*>(info->err)->fatal, 1); }

// A warning ends the decoding as well: what to make of a damaged image is the caller's decision.
void onMessage(j_common_ptr info, int level) {
  if (level < 0) leave(info);
}

void printNothing(j_common_ptr) {}

bool isProfile(const jpeg_marker_struct& marker) {
  static constexpr char kName[] = "ICC_PROFILE";
  return marker.data_length >= sizeof kName && memcmp(marker.data, kName, sizeof kName) == 0;
}

/** Baseline, and with a sampling of chroma that every version of the library decodes alike. */
bool hasPlainSamples(const jpeg_decompress_struct& info) {
  if (info.data_precision != 8 || info.num_components != 3) return false;
  if (info.progressive_mode || info.arith_code) return false;
  const jpeg_component_info& luma = info.comp_info[0];
  for (int chroma = 1; chroma < 3; chroma += 1)
    if (info.comp_info[chroma].h_samp_factor != 1 || info.comp_info[chroma].v_samp_factor != 1) return false;
  const int horizontal = luma.h_samp_factor;
  const int vertical = luma.v_samp_factor;
  return (horizontal == 1 && vertical == 1) || (horizontal == 2 && vertical <= 2);
}

bool isPlain(const jpeg_decompress_struct& info) {
  if (!hasPlainSamples(info) || info.jpeg_color_space != JCS_YCbCr) return false;
  for (const jpeg_marker_struct* marker = info.marker_list; marker != nullptr; marker = marker->next)
    if (isProfile(*marker)) return false;
  return int64_t{info.image_width} * info.image_height <= kPixelsMax;
}

/** The caller has set the handler of fatal errors. */
void create(jpeg_decompress_struct& info, ErrorManager& errors) {
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = leave;
  errors.base.emit_message = onMessage;
  errors.base.output_message = printNothing;
  jpeg_create_decompress(&info);
}

/** @param room for RGB of all rows. */
void readRows(jpeg_decompress_struct& info, uint8_t* room) {
  const size_t rowBytes = size_t{info.output_width} * 3;
  while (info.output_scanline < info.output_height) {
    JSAMPROW rows[4];
    for (JDIMENSION row = 0; row < 4; row += 1) {
      const JDIMENSION line = info.output_scanline + row;
      rows[row] = room + rowBytes * (line < info.output_height ? line : info.output_height - 1);
    }
    const JDIMENSION left = info.output_height - info.output_scanline;
    jpeg_read_scanlines(&info, rows, left < 4 ? left : 4);
  }
  jpeg_finish_decompress(&info);
}

}  // namespace

bool decodeJpeg(const uint8_t* bytes, size_t byteSize, Request& request) {
  jpeg_decompress_struct info = {};
  ErrorManager errors;
  if (setjmp(errors.fatal)) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  create(info, errors);
  jpeg_mem_src(&info, bytes, byteSize);
  jpeg_save_markers(&info, JPEG_APP0 + 2, 0xffff);
  jpeg_read_header(&info, TRUE);
  const Size size{static_cast<int>(info.image_width), static_cast<int>(info.image_height)};
  const int shrink = isPlain(info) ? request.shrinkFor(size, true) : 0;
  if (shrink == 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  info.out_color_space = JCS_RGB;
  info.scale_num = 1;
  info.scale_denom = shrink;
  jpeg_start_decompress(&info);
  readRows(info, request.roomFor({static_cast<int>(info.output_width), static_cast<int>(info.output_height)}));
  jpeg_destroy_decompress(&info);
  return true;
}

bool decodeJpegTile(const uint8_t* bytes, size_t byteSize, const TileCoding& coding, Size size, uint8_t* room) {
  jpeg_decompress_struct info = {};
  ErrorManager errors;
  if (setjmp(errors.fatal)) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  create(info, errors);
  bool isPlainTile = true;
  if (coding.tablesByteSize > 0) {
    jpeg_mem_src(&info, coding.tables, coding.tablesByteSize);
    isPlainTile = jpeg_read_header(&info, FALSE) == JPEG_HEADER_TABLES_ONLY;
  }
  if (isPlainTile) {
    jpeg_mem_src(&info, bytes, byteSize);
    jpeg_read_header(&info, TRUE);
    isPlainTile = hasPlainSamples(info) && info.image_width == static_cast<JDIMENSION>(size.width) &&
                  info.image_height == static_cast<JDIMENSION>(size.height);
  }
  if (!isPlainTile) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  info.jpeg_color_space = coding.isYcbcr ? JCS_YCbCr : JCS_RGB;
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  readRows(info, room);
  jpeg_destroy_decompress(&info);
  return true;
}

}  // namespace paraffin
