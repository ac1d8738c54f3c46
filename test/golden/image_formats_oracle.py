"""Small files of every row of the table of formats in docs/importing.md, with the pixels that tifffile and Pillow read.

    python image_formats_oracle.py > image-formats-expected.json

Made with tifffile, Pillow, imagecodecs and numpy. Every file holds 12 x 10 pixels. `rgb` is what an independent reader
decodes, brought to 8 bits by the documented rule; `issue` is the kind under which a file is refused; `notes` are the
kinds of warnings about a file that is imported.
"""

import base64
import io
import json
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps

HEIGHT, WIDTH = 10, 12
rows = []
rng = np.random.default_rng(7)


def picture():
    """Smooth, coloured, without symmetry, different at each call; scaled to 16 bits it passes 32768, so it is not dark."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    shift = rng.integers(0, 40, 3)
    planes = [(17 * x + 3 * y + shift[0]) % 256, (11 * y + 5 * x + 90 + shift[1]) % 256, 255 - (7 * x + 9 * y + shift[2]) % 256]
    return np.stack(planes, axis=-1).astype(np.uint8)


def grey(a):
    return np.asarray(Image.fromarray(a).convert('L'))


def as_rgb(a):
    return np.repeat(a[..., None], 3, axis=2) if a.ndim == 2 else a


def add(row, name, data, rgb=None, issue=None, notes=(), tolerance=0):
    entry = {'row': row, 'name': name, 'bytes': base64.b64encode(data).decode()}
    if issue is not None:
        entry['issue'] = issue
    else:
        rgb = np.ascontiguousarray(as_rgb(np.asarray(rgb)).astype(np.uint8))
        entry.update(width=rgb.shape[1], height=rgb.shape[0], rgb=base64.b64encode(rgb.tobytes()).decode())
        entry.update(notes=list(notes), tolerance=tolerance)
    rows.append(entry)


def pillow(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB'))


def saved(image, file_format, **options):
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


def tiff(array, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, array, **options)
    return out.getvalue()


def to8(values, white):
    return np.clip(np.floor(np.asarray(values, np.float64) * 255 / white + 0.5), 0, 255).astype(np.uint8)


def over_white(colour, alpha):
    share = np.asarray(alpha, np.float64)[..., None]
    return np.clip(np.floor(colour * share + 255 * (1 - share) + 0.5), 0, 255).astype(np.uint8)


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data) & 0xFFFFFFFF)


def png_file(bit_depth, colour_type, lines, extra=b''):
    header = struct.pack('>IIBBBBB', WIDTH, HEIGHT, bit_depth, colour_type, 0, 0, 0)
    body = zlib.compress(b''.join(b'\0' + line for line in lines))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + extra + chunk(b'IDAT', body) + chunk(b'IEND', b'')


def packed(values, bits):
    """Rows of small integers, the first one in the high bits."""
    lines = []
    for line in values:
        text = ''.join(format(int(value), f'0{bits}b') for value in line)
        text += '0' * (-len(text) % 8)
        lines.append(bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)))
    return lines


# JPEG
ROW = 'JPEG: 8 bits, grey or colour, baseline or progressive'
for name, options in (('baseline', {}), ('progressive', {'progressive': True}), ('rgb', {'keep_rgb': True}), ('422', {'subsampling': '4:2:2'})):
    data = saved(Image.fromarray(picture()), 'JPEG', quality=92, **options)
    add(ROW, f'jpeg-{name}', data, pillow(data))
data = saved(Image.fromarray(grey(picture())), 'JPEG', quality=92)
add(ROW, 'jpeg-grey', data, pillow(data))
ROW = 'JPEG: Exif orientation 2 to 8'
for orientation in range(2, 9):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = saved(Image.fromarray(picture()), 'JPEG', quality=92, exif=exif)
    add(ROW, f'jpeg-orientation-{orientation}', data, pillow(data))
ROW = 'JPEG: CMYK, without a profile'
data = saved(Image.fromarray(picture()).convert('CMYK'), 'JPEG', quality=92)
add(ROW, 'jpeg-cmyk', data, pillow(data))
ROW = 'JPEG: lossless (SOF3)'
a = picture()
add(ROW, 'jpeg-lossless', imagecodecs.jpeg8_encode(a, lossless=True), a)
ROW = 'JPEG: 12 bits'
add(ROW, 'jpeg-12', imagecodecs.jpeg8_encode(picture().astype('uint16') * 16, bitspersample=12), issue='SAMPLE_FORMAT_NOT_READ')
ROW = 'JPEG: no end mark'
data = saved(Image.fromarray(picture()), 'JPEG', quality=92)
add(ROW, 'jpeg-no-end-mark', data[:-2], pillow(data), notes=['REPAIRED'])
ROW = 'JPEG: stray bytes between segments'
at = data.index(b'\xff\xc4')
add(ROW, 'jpeg-stray', data[:at] + b'\x12\x34\x56' + data[at:], pillow(data), notes=['REPAIRED'])
add(ROW, 'jpeg-stray-at-end', data[:-2] + b'\x12\x34\x56\x00\x11' + data[-2:], pillow(data))


def segment_offsets(data):
    """Of every marker after the first scan, restart marks and the end mark among them."""
    at = data.index(b'\xff\xda')
    at += 2 + struct.unpack('>H', data[at + 2 : at + 4])[0]
    found = []
    while True:
        at = data.index(b'\xff', at)
        if data[at + 1] == 0:
            at += 2
            continue
        found.append(at)
        if data[at + 1] == 0xD9:
            return found
        at += 2 if 0xD0 <= data[at + 1] <= 0xD7 else 2 + struct.unpack('>H', data[at + 2 : at + 4])[0]


ROW = 'JPEG: stray bytes between scans or restart intervals'
# Longer than 8 bytes: libjpeg reads that many ahead, and does not warn of stray bytes among them.
STRAYS = (b'\x11\x22\x33' * 5, b'\0' * 16, b'\xff\0' * 12, b'\0' * 700, bytes(range(200)), b'\x55' * 9 + b'\xff\x01', b'\xaa' * 12 + b'\xff\xff')
tall = np.concatenate([picture() for _ in range(5)])
for name, image, options in (
    ('progressive', Image.fromarray(picture()), {}),
    ('progressive-grey', Image.fromarray(grey(picture())), {}),
    ('progressive-444-restarts', Image.fromarray(picture()), {'subsampling': '4:4:4', 'restart_marker_blocks': 1}),
    ('baseline-restarts', Image.fromarray(tall), {'progressive': False, 'subsampling': '4:4:4', 'restart_marker_blocks': 1}),
):
    clean = saved(image, 'JPEG', **{'quality': 92, 'progressive': True, **options})
    offsets = segment_offsets(clean)
    # libvips does not check for warnings after the last 16 rows, so stray bytes there are not reported.
    if name == 'baseline-restarts':
        offsets = offsets[:6]
    for index, at in enumerate(offsets[:: 1 if name == 'progressive' else 5]):
        stray = STRAYS[(index + len(name)) % len(STRAYS)]
        # FF 01 (TEM) is itself a marker; before a restart mark a decoder would stop at it.
        if 0xD0 <= clean[at + 1] <= 0xD7 and b'\xff\x01' in stray:
            stray = b'\x55' * 12
        dirty = clean[:at] + stray + clean[at:]
        assert (pillow(dirty) == pillow(clean)).all()
        add(ROW, f'jpeg-stray-{name}-{index}', dirty, pillow(dirty), notes=['REPAIRED'])
    everywhere = b''.join(clean[start:end] + b'\x12\x34' * 6 for start, end in zip([0] + offsets, offsets, strict=False))
    everywhere += clean[offsets[-1] :]
    add(ROW, f'jpeg-stray-{name}-everywhere', everywhere, pillow(everywhere), notes=['REPAIRED'])
ROW = 'JPEG: the file ends early'
add(ROW, 'jpeg-half', data[: len(data) - 40], issue='TRUNCATED')

# PNG
ROW = 'PNG: grey of 1, 2, 4 or 8 bits'
for bits in (1, 2, 4, 8):
    values = grey(picture()) >> (8 - bits)
    data = png_file(bits, 0, packed(values, bits))
    add(ROW, f'png-grey-{bits}', data, to8(values, 2**bits - 1))
ROW = 'PNG: RGB of 8 bits, interlaced or not'
data = saved(Image.fromarray(picture()), 'PNG')
add(ROW, 'png-rgb', data, pillow(data))
ROW = 'PNG: palette of 1 to 8 bits'
for bits in (1, 2, 4, 8):
    data = saved(Image.fromarray(picture()).quantize(2**bits), 'PNG', bits=bits)
    add(ROW, f'png-palette-{bits}', data, pillow(data))
ROW = 'PNG: grey or RGB of 16 bits'
deep = picture().astype(np.uint16) * 256 + rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint16)
add(ROW, 'png-rgb-16', imagecodecs.png_encode(deep), to8(deep, 65535))
add(ROW, 'png-grey-16', imagecodecs.png_encode(deep[..., 0].copy()), to8(deep[..., 0], 65535))
ROW = 'PNG: alpha of 8 or 16 bits, transparent colours'
a = picture()
alpha = ((np.arange(WIDTH) * 21 + np.arange(HEIGHT)[:, None] * 5) % 256).astype(np.uint8)
add(ROW, 'png-rgba', saved(Image.fromarray(np.dstack([a, alpha])), 'PNG'), over_white(a.astype(float), alpha / 255))
g = grey(picture())
add(ROW, 'png-grey-alpha', saved(Image.fromarray(np.dstack([g, alpha]), 'LA'), 'PNG'), over_white(as_rgb(g).astype(float), alpha / 255))
alpha16 = alpha.astype(np.uint16) * 257
add(ROW, 'png-rgba-16', imagecodecs.png_encode(np.dstack([deep, alpha16])), over_white(deep / 257, alpha16 / 65535))
g = grey(picture()).copy()
g[:3] = 200
white = np.where(g == 200, 255, g)
add(ROW, 'png-grey-transparent', png_file(8, 0, packed(g, 8), chunk(b'tRNS', struct.pack('>H', 200))), white)
q = Image.fromarray(picture()).quantize(16)
t = np.asarray(q.convert('RGB')).copy()
t[np.asarray(q) == 0] = 255
add(ROW, 'png-palette-transparent', saved(q, 'PNG', transparency=0), t)
ROW = 'PNG: 16 bits that never pass 16383, and no sBIT of 16'
for bits in (10, 12, 14):
    add(ROW, f'png-{bits}-in-16', imagecodecs.png_encode(picture().astype(np.uint16) << (bits - 8)), issue='RANGE_NOT_STATED')
add(ROW, 'png-labels-in-16', imagecodecs.png_encode((grey(picture()) >> 5).astype(np.uint16)), issue='RANGE_NOT_STATED')
dark = picture().astype(np.uint16) * 60 + rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint16)
data = imagecodecs.png_encode(dark)
twelve_bits = chunk(b'sBIT', bytes([12, 12, 12]))
add(ROW, 'png-dark-sbit-12', data[:33] + twelve_bits + data[33:], issue='RANGE_NOT_STATED')
ROW = 'PNG: 16 bits that never pass 16383, with sBIT of 16'
sixteen_bits = chunk(b'sBIT', bytes([16, 16, 16]))
add(ROW, 'png-dark-sbit', data[:33] + sixteen_bits + data[33:], to8(dark, 65535))
ROW = 'PNG: 16 bits that pass 16383 and never 32768'
dim = picture().astype(np.uint16) * 120 + rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint16)
add(ROW, 'png-dim', imagecodecs.png_encode(dim), to8(dim, 65535), notes=['HALF_RANGE_UNUSED'])
fifteen = picture().astype(np.uint16) << 7
add(ROW, 'png-15-in-16', imagecodecs.png_encode(fifteen), to8(fifteen, 65535), notes=['HALF_RANGE_UNUSED'])
ROW = 'PNG: gAMA, wrong checksums of text, bytes after the end'
a = picture()
data = saved(Image.fromarray(a), 'PNG')
text = bytearray(chunk(b'tEXt', b'Comment\0scanned'))
text[-1] ^= 1
add(ROW, 'png-gamma', data[:33] + chunk(b'gAMA', struct.pack('>I', 100000)) + data[33:], a)
add(ROW, 'png-text-checksum', data[:33] + bytes(text) + data[33:], a)
add(ROW, 'png-trailing', data + b'more', a)
ROW = 'PNG: a colour space in cICP that is not sRGB'
add(ROW, 'png-cicp', data[:33] + chunk(b'cICP', bytes([12, 13, 0, 1])) + data[33:], issue='COLOUR_SPACE_NOT_READ')
ROW = 'PNG: animated'
add(ROW, 'png-animated', saved(Image.fromarray(a), 'PNG', save_all=True, append_images=[Image.fromarray(255 - a)]), a, notes=['PAGES_LEFT_OUT'])

# WebP
ROW = 'WebP: lossy or lossless'
data = saved(Image.fromarray(picture()), 'WEBP', quality=90)
add(ROW, 'webp-lossy', data, pillow(data))
a = picture()
add(ROW, 'webp-lossless', saved(Image.fromarray(a), 'WEBP', lossless=True), a)
ROW = 'WebP: alpha'
add(ROW, 'webp-alpha', saved(Image.fromarray(np.dstack([a, alpha])), 'WEBP', lossless=True, exact=True), over_white(a.astype(float), alpha / 255))
ROW = 'WebP: animated'
add(ROW, 'webp-animated', saved(Image.fromarray(a), 'WEBP', save_all=True, append_images=[Image.fromarray(255 - a)], lossless=True), a, notes=['PAGES_LEFT_OUT'])

# BMP
ROW = 'BMP: 1, 4 and 8 bits with a palette, 16, 24 and 32 bits'
data = saved(Image.fromarray(picture()), 'BMP')
add(ROW, 'bmp-24', data, pillow(data))
data = saved(Image.fromarray(picture()).quantize(256), 'BMP')
add(ROW, 'bmp-8', data, pillow(data))
data = saved(Image.fromarray(np.dstack([picture(), np.full((HEIGHT, WIDTH), 255, np.uint8)])), 'BMP')
add(ROW, 'bmp-32', data, pillow(data))


def bmp16(a, masks):
    shifts = [(mask & -mask).bit_length() - 1 for mask in masks]
    widths = [bin(mask).count('1') for mask in masks]
    values = sum((a[::-1, :, i].astype(np.uint16) >> (8 - widths[i])) << shifts[i] for i in range(3)).astype('<u2').tobytes()
    header = b'BM' + struct.pack('<IHHI', 66 + len(values), 0, 0, 66)
    header += struct.pack('<IiiHHIIiiII', 40, WIDTH, HEIGHT, 1, 16, 3, len(values), 2835, 2835, 0, 0) + struct.pack('<III', *masks)
    return header + values


for name, masks in (('565', (0xF800, 0x7E0, 0x1F)), ('555', (0x7C00, 0x3E0, 0x1F))):
    data = bmp16(picture(), masks)
    add(ROW, f'bmp-{name}', data, pillow(data))
ROW = 'BMP: run lengths'
rle = bytearray(saved(Image.fromarray(picture()).quantize(256), 'BMP'))
rle[30:34] = struct.pack('<I', 1)
add(ROW, 'bmp-rle', bytes(rle), issue='COMPRESSION_NOT_READ')

# TIFF: samples
ROW = 'TIFF: grey of 1, 2, 4 or 8 bits, black or white as zero'
values = grey(picture())
data = saved(Image.fromarray(values > 128), 'TIFF')
add(ROW, 'tiff-grey-1', data, pillow(data))
for bits in (2, 4):
    small = values >> (8 - bits)
    data = tiff(small, bitspersample=bits, photometric='minisblack')
    add(ROW, f'tiff-grey-{bits}', data, to8(small, 2**bits - 1))
    add(ROW, f'tiff-white-is-zero-{bits}', tiff(small, bitspersample=bits, photometric='miniswhite'), to8(2**bits - 1 - small, 2**bits - 1))
add(ROW, 'tiff-grey-8', tiff(values, photometric='minisblack'), values)
add(ROW, 'tiff-white-is-zero-8', tiff(values, photometric='miniswhite'), 255 - values)
ROW = 'TIFF: grey or RGB of 16 bits'
add(ROW, 'tiff-rgb-16', tiff(deep, photometric='rgb'), to8(deep, 65535))
add(ROW, 'tiff-grey-16', tiff(deep[..., 1].copy(), photometric='minisblack'), to8(deep[..., 1], 65535))
add(ROW, 'tiff-white-is-zero-16', tiff(deep[..., 1].copy(), photometric='miniswhite'), to8(65535 - deep[..., 1], 65535))
ROW = 'TIFF: RGB of 8 bits, strips or tiles, planes together or apart, BigTIFF, either byte order'
a = picture()
add(ROW, 'tiff-rgb', tiff(a, photometric='rgb'), a)
add(ROW, 'tiff-tiles', tiff(a, photometric='rgb', tile=(16, 16)), a)
add(ROW, 'tiff-planar', tiff(a.transpose(2, 0, 1).copy(), photometric='rgb', planarconfig='separate'), a)
add(ROW, 'tiff-planar-16', tiff(deep.transpose(2, 0, 1).copy(), photometric='rgb', planarconfig='separate'), to8(deep, 65535))
add(ROW, 'tiff-imagej-rgb', tiff(a, imagej=True, photometric='rgb'), a)
add(ROW, 'tiff-bigtiff', tiff(a, photometric='rgb', bigtiff=True), a)
add(ROW, 'tiff-big-endian', tiff(deep.astype('>u2'), photometric='rgb', byteorder='>'), to8(deep, 65535))
ROW = 'TIFF: tiles with planes apart'
add(ROW, 'tiff-planar-tiles', tiff(a.transpose(2, 0, 1).copy(), photometric='rgb', planarconfig='separate', tile=(16, 16)), issue='SAMPLE_FORMAT_NOT_READ')
ROW = 'TIFF: palette'
q = Image.fromarray(picture()).quantize(256)
data = saved(q, 'TIFF')
add(ROW, 'tiff-palette', data, pillow(data))
ROW = 'TIFF: floating point of 16 or 32 bits within 0..1'
f = picture().astype(np.float32) / 255
add(ROW, 'tiff-float-32', tiff(f, photometric='rgb'), to8(f, 1))
add(ROW, 'tiff-float-32-predictor', tiff(f, photometric='rgb', compression='zlib', predictor=3), to8(f, 1))
add(ROW, 'tiff-float-16', tiff(f.astype(np.float16), photometric='rgb'), to8(f.astype(np.float16), 1))
add(ROW, 'tiff-float-grey', tiff(f[..., 0].copy(), photometric='minisblack'), to8(f[..., 0], 1))
add(ROW, 'tiff-float-32-white-is-zero', tiff(f[..., 0].copy(), photometric='miniswhite'), to8(1 - f[..., 0].astype(np.float64), 1))
half = f[..., 0].astype(np.float16)
planes = f.transpose(2, 0, 1).copy()
add(ROW, 'tiff-float-32-planar', tiff(planes, photometric='rgb', planarconfig='separate'), to8(f, 1))
half_rgb = f.astype(np.float16)
for name, options in (('tiles', {'tile': (16, 16)}), ('deflate', {'compression': 'zlib'}), ('predictor', {'compression': 'zlib', 'predictor': 3})):
    add(ROW, f'tiff-float-16-{name}', tiff(half_rgb, photometric='rgb', **options), to8(half_rgb, 1))
add(ROW, 'tiff-float-16-big-endian', tiff(half_rgb.astype('>f2'), photometric='rgb', byteorder='>'), to8(half_rgb, 1))
ROW = 'TIFF: floating point of 16 bits, grey or with planes apart'
add(ROW, 'tiff-float-16-planar', tiff(planes.astype(np.float16), photometric='rgb', planarconfig='separate'), issue='SAMPLE_FORMAT_NOT_READ')
add(ROW, 'tiff-float-16-grey', tiff(half, photometric='minisblack'), issue='SAMPLE_FORMAT_NOT_READ')
add(ROW, 'tiff-float-16-white-is-zero', tiff(half, photometric='miniswhite'), issue='SAMPLE_FORMAT_NOT_READ')
ROW = 'TIFF: floating point outside 0..1, or not a number'
add(ROW, 'tiff-float-255', tiff(f * 255, photometric='rgb'), issue='RANGE_NOT_STATED')
add(ROW, 'tiff-float-negative', tiff(f - 0.5, photometric='rgb'), issue='RANGE_NOT_STATED')
holes = f.copy()
holes[3, 4, 1] = np.nan
add(ROW, 'tiff-float-nan', tiff(holes, photometric='rgb'), issue='RANGE_NOT_STATED')
ROW = 'TIFF: SMaxSampleValue of 255, 1023, 4095, 16383 or 65535 with SMinSampleValue 0 or none'
twelve = picture().astype(np.uint16) * 16 + 15
stated = [(341, 'H', 3, (4095, 4095, 4095), True)]
add(ROW, 'tiff-12-in-16-stated', tiff(twelve, photometric='rgb', extratags=stated), to8(twelve, 4095))
add(ROW, 'tiff-float-255-stated', tiff(f * 255, photometric='rgb', extratags=[(341, 'f', 3, (255.0, 255.0, 255.0), True)]), to8(f * 255, 255))
add(ROW, 'tiff-16-in-16-stated', tiff(dark, photometric='rgb', extratags=[(341, 'H', 3, (65535, 65535, 65535), True)]), to8(dark, 65535))
inverted = [(341, 'H', 1, 4095, True)]
add(ROW, 'tiff-12-in-16-stated-white-is-zero', tiff(twelve[..., 0].copy(), photometric='miniswhite', extratags=inverted), 255 - to8(twelve[..., 0], 4095))
inverted = [(341, 'f', 1, 255.0, True)]
add(ROW, 'tiff-float-255-stated-white-is-zero', tiff(f[..., 0] * 255, photometric='miniswhite', extratags=inverted), 255 - to8(f[..., 0] * 255, 255))
ROW = 'TIFF: values above the SMaxSampleValue that is stated'
above = twelve.copy()
above[4, 5, 1] = 4096
add(ROW, 'tiff-above-stated', tiff(above, photometric='rgb', extratags=stated), issue='RANGE_NOT_STATED')
ROW = 'TIFF: SignificantBits of OME-XML'


def ome(array, bits):
    return tiff(array, ome=True, photometric='rgb', metadata={'axes': 'YXS', 'SignificantBits': bits})


assert b'SignificantBits="12"' in ome(twelve, 12)
add(ROW, 'tiff-ome-12-in-16', ome(twelve, 12), to8(twelve, 4095))
add(ROW, 'tiff-ome-16-dark', ome(dark, 16), to8(dark, 65535))
ROW = 'TIFF: 16 bits that pass 16383 and never 32768'
add(ROW, 'tiff-dim', tiff(dim, photometric='rgb'), to8(dim, 65535), notes=['HALF_RANGE_UNUSED'])
add(ROW, 'tiff-dim-white-is-zero', tiff(dim[..., 0].copy(), photometric='miniswhite'), to8(65535 - dim[..., 0], 65535), notes=['HALF_RANGE_UNUSED'])
ROW = 'TIFF: 16 bits that never pass 16383, and nothing that states their range'
for bits in (10, 12, 14):
    add(ROW, f'tiff-{bits}-in-16', tiff(picture().astype(np.uint16) << (bits - 8), photometric='rgb'), issue='RANGE_NOT_STATED')
add(ROW, 'tiff-12-in-16-white-is-zero', tiff(twelve[..., 0].copy(), photometric='miniswhite'), issue='RANGE_NOT_STATED')
add(ROW, 'tiff-dark', tiff(dark, photometric='rgb'), issue='RANGE_NOT_STATED')
measured = [(341, 'H', 3, (3977, 3901, 4011), True)]
add(ROW, 'tiff-12-in-16-measured', tiff(twelve, photometric='rgb', extratags=measured), issue='RANGE_NOT_STATED')
ROW = 'TIFF: signed, 32-bit or 64-bit integers, 64-bit floating point, complex numbers, 12 bits packed'
for name, array in (
    ('int-8', (picture() // 2).astype(np.int8)),
    ('int-16', picture().astype(np.int16) * 128),
    ('uint-32', picture().astype(np.uint32) * 16843009),
    ('float-64', f.astype(np.float64)),
):
    add(ROW, f'tiff-{name}', tiff(array, photometric='rgb'), issue='SAMPLE_FORMAT_NOT_READ')
add(ROW, 'tiff-complex', tiff(f[..., 0].astype(np.complex64), photometric='minisblack'), issue='SAMPLE_FORMAT_NOT_READ')
add(ROW, 'tiff-12-packed', tiff(grey(picture()).astype(np.uint16) * 16, bitspersample=12, photometric='minisblack'), issue='SAMPLE_FORMAT_NOT_READ')

# TIFF: colour spaces
ROW = 'TIFF: YCbCr, compressed as JPEG'
data = tiff(picture(), photometric='ycbcr', compression='jpeg', compressionargs={'level': 95})
add(ROW, 'tiff-ycbcr', data, tifffile.imread(io.BytesIO(data)), tolerance=1)
ROW = 'TIFF: CMYK of 8 bits, without a profile'
data = saved(Image.fromarray(picture()).convert('CMYK'), 'TIFF')
add(ROW, 'tiff-cmyk', data, pillow(data))
ROW = 'TIFF: CIE L*a*b*, colour filter of a camera, YCbCr without JPEG, no photometric interpretation'
lab = ImageCms.profileToProfile(Image.fromarray(picture()), ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), outputMode='LAB')
add(ROW, 'tiff-lab', saved(lab, 'TIFF'), issue='COLOUR_SPACE_NOT_READ')
add(ROW, 'tiff-cfa', tiff(grey(picture()), photometric='cfa'), issue='COLOUR_SPACE_NOT_READ')
add(ROW, 'tiff-ycbcr-plain', tiff(picture(), photometric='ycbcr', subsampling=(1, 1)), issue='COLOUR_SPACE_NOT_READ')
unsaid = tiff(grey(picture()), photometric='minisblack')
at = unsaid.index(struct.pack('<HH', 262, 3))
add(ROW, 'tiff-no-photometric', unsaid[:at] + struct.pack('<H', 65000) + unsaid[at + 2 :], issue='COLOUR_SPACE_NOT_READ')

# TIFF: extra samples
ROW = 'TIFF: alpha, associated or not, of 8 or 16 bits (ExtraSamples 1 and 2)'
a = picture()
add(ROW, 'tiff-alpha', tiff(np.dstack([a, alpha]), photometric='rgb', extrasamples=['unassalpha']), over_white(a.astype(float), alpha / 255))
add(ROW, 'tiff-alpha-16', tiff(np.dstack([deep, alpha16]), photometric='rgb', extrasamples=['unassalpha']), over_white(deep / 257, alpha16 / 65535))
multiplied = np.round(a * (alpha[..., None] / 255)).astype(np.uint8)
expected = np.clip(multiplied.astype(int) + 255 - alpha[..., None], 0, 255)
add(ROW, 'tiff-alpha-associated', tiff(np.dstack([multiplied, alpha]), photometric='rgb', extrasamples=['assocalpha']), expected, tolerance=1)
multiplied16 = np.round(deep * (alpha16[..., None] / 65535)).astype(np.uint16)
expected = np.clip(np.floor(multiplied16 / 257 + 255 * (1 - alpha16[..., None] / 65535) + 0.5), 0, 255)
add(ROW, 'tiff-alpha-associated-16', tiff(np.dstack([multiplied16, alpha16]), photometric='rgb', extrasamples=['assocalpha']), expected, tolerance=1)
g = grey(a)
add(ROW, 'tiff-grey-alpha', tiff(np.dstack([g, alpha]), photometric='minisblack', extrasamples=['unassalpha'], planarconfig='contig'), over_white(as_rgb(g).astype(float), alpha / 255))
ROW = 'TIFF: extra samples that are not alpha (ExtraSamples 0 or none)'
mask = np.zeros((HEIGHT, WIDTH), np.uint8)
mask[2:5, 3:7] = 255
add(ROW, 'tiff-extra-mask', tiff(np.dstack([a, mask]), photometric='rgb', extrasamples=['unspecified']), a, notes=['CHANNELS_LEFT_OUT'])
add(ROW, 'tiff-extra-two', tiff(np.dstack([a, mask, mask]), photometric='rgb', extrasamples=['unspecified', 'unspecified']), a, notes=['CHANNELS_LEFT_OUT'])
add(ROW, 'tiff-grey-mask', tiff(np.dstack([grey(a), mask]), photometric='minisblack', extrasamples=['unspecified'], planarconfig='contig'), grey(a), notes=['CHANNELS_LEFT_OUT'])
add(ROW, 'tiff-mask-then-alpha', tiff(np.dstack([a, mask, alpha]), photometric='rgb', extrasamples=['unspecified', 'unassalpha']), over_white(a.astype(float), alpha / 255), notes=['CHANNELS_LEFT_OUT'])

# TIFF: compressions
ROW = 'TIFF: LZW, Deflate, PackBits, JPEG, WebP or CCITT compression, predictors'
a = picture()
for name, options in (
    ('lzw', {'compression': 'lzw', 'predictor': True}),
    ('deflate', {'compression': 'zlib', 'predictor': True}),
    ('packbits', {'compression': 'packbits'}),
    ('webp', {'compression': 'webp', 'compressionargs': {'lossless': True}}),
):
    add(ROW, f'tiff-{name}', tiff(a, photometric='rgb', **options), a)
add(ROW, 'tiff-deflate-16', tiff(deep, photometric='rgb', compression='zlib', predictor=True), to8(deep, 65535))
data = tiff(picture(), photometric='rgb', compression='jpeg', compressionargs={'level': 95, 'outcolorspace': 'rgb'})
add(ROW, 'tiff-jpeg-rgb', data, tifffile.imread(io.BytesIO(data)))
for name in ('group3', 'group4'):
    data = saved(Image.fromarray(grey(a) > 128), 'TIFF', compression=name)
    add(ROW, f'tiff-{name}', data, pillow(data))
ROW = 'TIFF: Zstandard, LZMA, LERC, JPEG XL, JPEG 2000 or lossless JPEG compression'
for name, options in (
    ('zstd', {'compression': 'zstd'}),
    ('lzma', {'compression': 'lzma'}),
    ('lerc', {'compression': 'lerc'}),
    ('jpegxl', {'compression': 'jpegxl', 'compressionargs': {'lossless': True}}),
    ('jpeg2000', {'compression': 'jpeg2000', 'compressionargs': {'level': 0}}),
    ('aperio', {'compression': 33005, 'tile': (16, 16)}),
    ('lossless-jpeg', {'compression': 'jpeg', 'compressionargs': {'lossless': True}}),
):
    add(ROW, f'tiff-{name}', tiff(a, photometric='rgb', **options), issue='COMPRESSION_NOT_READ')

# TIFF: pages and planes
ROW = 'TIFF: orientation 2 to 8'
for orientation in range(2, 9):
    data = saved(Image.fromarray(picture()), 'TIFF', tiffinfo={0x112: orientation})
    add(ROW, f'tiff-orientation-{orientation}', data, pillow(data))
ROW = 'TIFF: several pages'
stack = np.stack([picture() for _ in range(3)])
add(ROW, 'tiff-pages', tiff(stack, photometric='rgb'), stack[0], notes=['PAGES_LEFT_OUT'])


def pages(*parts):
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for array, options in parts:
            writer.write(array, photometric='rgb', metadata=None, **options)
    return out.getvalue()


small = a[::2, ::2].copy()
add(ROW, 'tiff-thumbnail-first', pages((small, {}), (a, {})), a, notes=['PAGES_LEFT_OUT'])
ROW = 'TIFF: pages of reduced resolution, in the chain or as SubIFDs'
add(ROW, 'tiff-pyramid', pages((a, {}), (small, {'subfiletype': 1})), a)
add(ROW, 'tiff-reduced-first', pages((small, {'subfiletype': 1}), (a, {})), a)
add(ROW, 'tiff-subifd', pages((a, {'subifds': 1}), (small, {'subfiletype': 1})), a)
add(ROW, 'tiff-subifd-full', pages((small, {'subfiletype': 1, 'subifds': 1}), (a, {})), a)
ROW = 'TIFF: channels as grey pages (OME, ImageJ, plain)'
planes = a.transpose(2, 0, 1).copy()
add(ROW, 'tiff-ome', tiff(planes, ome=True, photometric='minisblack', metadata={'axes': 'CYX'}), issue='SEPARATE_CHANNELS')
add(ROW, 'tiff-imagej', tiff(planes, imagej=True, metadata={'axes': 'CYX', 'mode': 'composite'}), issue='SEPARATE_CHANNELS')
add(ROW, 'tiff-grey-pages', tiff(planes, photometric='minisblack'), issue='SEPARATE_CHANNELS')
ROW = 'TIFF: the file ends early'
data = tiff(picture(), photometric='rgb')
add(ROW, 'tiff-half', data[: len(data) - 100], issue='TRUNCATED')

# Profiles
PRIMARIES = {'rXYZ': (0.60974, 0.31111, 0.01947), 'gXYZ': (0.20528, 0.62567, 0.06087), 'bXYZ': (0.14919, 0.06322, 0.74457)}


def profile(primaries):
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes())
    count = struct.unpack('>I', data[128:132])[0]
    for index in range(count):
        signature, offset, _ = struct.unpack('>4sII', data[132 + 12 * index : 144 + 12 * index])
        if signature.decode() in primaries:
            values = primaries[signature.decode()]
            data[offset + 8 : offset + 20] = b''.join(struct.pack('>i', int(round(value * 65536))) for value in values)
    return bytes(data)


def converted(rgb, data):
    source = ImageCms.ImageCmsProfile(io.BytesIO(data))
    image = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(ImageCms.profileToProfile(image, source, ImageCms.createProfile('sRGB'), renderingIntent=0, outputMode='RGB'))


ADOBE, SRGB = profile(PRIMARIES), profile({})
ROW = 'Any format: a colour profile of another RGB space'
data = saved(Image.fromarray(picture()), 'JPEG', quality=92, icc_profile=ADOBE)
add(ROW, 'jpeg-adobe-rgb', data, converted(pillow(data), ADOBE), tolerance=1)
a = picture()
add(ROW, 'png-adobe-rgb', saved(Image.fromarray(a), 'PNG', icc_profile=ADOBE), converted(a, ADOBE), tolerance=1)
add(ROW, 'webp-adobe-rgb', saved(Image.fromarray(a), 'WEBP', lossless=True, icc_profile=ADOBE), converted(a, ADOBE), tolerance=1)
tags = [(34675, 7, len(ADOBE), ADOBE, True)]
add(ROW, 'tiff-adobe-rgb-16', tiff(deep, photometric='rgb', extratags=tags), converted(to8(deep, 65535), ADOBE), tolerance=1)
add(ROW, 'tiff-adobe-rgb-second-page', pages((small, {}), (a, {'extratags': tags})), converted(a, ADOBE), notes=['PAGES_LEFT_OUT'], tolerance=1)
ROW = 'Any format: a profile that is sRGB'
data = saved(Image.fromarray(picture()), 'JPEG', quality=92, icc_profile=SRGB)
add(ROW, 'jpeg-srgb', data, pillow(data))
add(ROW, 'png-srgb', saved(Image.fromarray(a), 'PNG', icc_profile=SRGB), a)
add(ROW, 'webp-srgb', saved(Image.fromarray(a), 'WEBP', lossless=True, icc_profile=SRGB), a)
add(ROW, 'tiff-srgb-16', tiff(deep, photometric='rgb', extratags=[(34675, 7, len(SRGB), SRGB, True)]), to8(deep, 65535))
ROW = 'Any format: a profile that is damaged or made for other colours'
data = saved(Image.fromarray(picture()), 'JPEG', quality=92, icc_profile=ADOBE[:200])
add(ROW, 'jpeg-broken-profile', data, pillow(data), notes=['PROFILE_NOT_APPLIED'])
add(ROW, 'png-broken-profile', saved(Image.fromarray(a), 'PNG', icc_profile=b'not a profile' * 5), a, notes=['PROFILE_NOT_APPLIED'])
data = saved(Image.fromarray(grey(picture())), 'JPEG', quality=92, icc_profile=ADOBE)
add(ROW, 'jpeg-grey-rgb-profile', data, pillow(data), notes=['PROFILE_NOT_APPLIED'])

# What is not an image of a format that is read
ROW = 'GIF, JPEG 2000, JPEG XL, AVIF'
a = picture()
add(ROW, 'gif', saved(Image.fromarray(a).quantize(64), 'GIF'), issue='IS_GIF')
add(ROW, 'jp2', imagecodecs.jpeg2k_encode(a, level=0), issue='IS_JPEG_2000')
add(ROW, 'jxl', imagecodecs.jpegxl_encode(a, lossless=True), issue='IS_JPEG_XL')
add(ROW, 'avif', imagecodecs.avif_encode(a, level=100), issue='IS_AVIF_OR_HEIF')

print(json.dumps(rows))
