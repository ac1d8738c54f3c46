/** Recognises files of unsupported formats by their first bytes, so that the user learns what to convert. */

/** Enough for every signature below: that of DICOM follows 128 bytes, and that of tar 257. */
export const SIGNATURE_BYTES = 512;

function leftOut(meaning: string) {
  return { kept: false, meaning } as const;
}

/** One kind of issue for each; the reason says what the file is and what to do. */
export const FOREIGN_KINDS = {
  IS_EMPTY: leftOut('An empty file of 0 bytes. Copy or download it again.'),
  IS_GIT_LFS_POINTER: leftOut(
    'A Git LFS pointer, not the image itself. Run "git lfs pull" in the repository, then import.',
  ),
  IS_HTML: leftOut('An HTML page, probably the login page of a server. Download the image again.'),
  IS_GIF: leftOut('A GIF, whose 256 colours cannot be those of a scan. Export the original as PNG or TIFF.'),
  IS_JPEG_2000: leftOut('JPEG 2000, which is not read. Convert it to PNG or TIFF without loss.'),
  IS_JPEG_XL: leftOut('JPEG XL, which is not read. Convert it to PNG or TIFF without loss.'),
  IS_JPEG_XR: leftOut('JPEG XR, which is not read. Convert it to PNG or TIFF without loss.'),
  IS_NETPBM: leftOut('A Netpbm image (PBM, PGM, PPM), which is not read. Convert it to PNG without loss.'),
  IS_AVIF_OR_HEIF: leftOut('AVIF or HEIF, which is not read. Convert it to PNG.'),
  IS_PSD: leftOut('A Photoshop document. Export a flattened PNG or TIFF.'),
  IS_OPENEXR: leftOut('OpenEXR, which is not read. Convert it to 8-bit or 16-bit PNG or TIFF.'),
  IS_SVG: leftOut('An SVG drawing. Export it as PNG.'),
  IS_XML: leftOut('An XML file. Import the images that it describes.'),
  IS_PDF: leftOut('A PDF. Extract its images as PNG or JPEG.'),
  IS_DICOM: leftOut('DICOM, which is not read. Convert it to TIFF or PNG first.'),
  IS_HDF5: leftOut(
    'HDF5, a file of arrays. Write its images as PNG files first. Coordinates and features of CLAM or TRIDENT are not read: import their slides.',
  ),
  IS_NUMPY: leftOut('A NumPy array. Write its images as PNG files first.'),
  IS_MATLAB: leftOut('A MATLAB file. Write its images as PNG files first.'),
  IS_NIFTI: leftOut('NIfTI, which is not read. Write its planes as PNG or TIFF first.'),
  IS_CZI: leftOut('A Zeiss CZI slide. Convert it to OME-TIFF or cut patches from it first.'),
  IS_OLYMPUS_VSI: leftOut('An Olympus ETS slide. Convert it to OME-TIFF or cut patches from it first.'),
  IS_ZIP: leftOut('A zip archive. Unpack it into the folder.'),
  IS_GZIP: leftOut('A gzip archive. Unpack it into the folder.'),
  IS_TAR: leftOut('A tar archive. Unpack it into the folder.'),
  IS_7Z: leftOut('A 7z archive. Unpack it into the folder.'),
  IS_RAR: leftOut('A RAR archive. Unpack it into the folder.'),
} as const;
export type ForeignKind = keyof typeof FOREIGN_KINDS;

/** Matched against the text of the first bytes, one character per byte; the first match counts. */
const SIGNATURES: readonly (readonly [ForeignKind, RegExp])[] = [
  ['IS_EMPTY', /^$/],
  ['IS_GIT_LFS_POINTER', /^version https:\/\/git-lfs\.github\.com\//],
  ['IS_GIF', /^GIF8[79]a/],
  // The boxed form, and the bare codestream.
  ['IS_JPEG_2000', /^(\0\0\0\x0cjP {2}\r\n\x87\n|\xff\x4f\xff\x51)/],
  ['IS_JPEG_XL', /^(\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a)/],
  ['IS_JPEG_XR', /^II\xbc[\0\x01]/],
  ['IS_NETPBM', /^P[1-7]\s+(#[^\n]*\s+)*(\d|WIDTH)/],
  ['IS_AVIF_OR_HEIF', /^[^]{4}ftyp(avif|avis|heic|heix|hevc|heim|heis|mif1|msf1)/],
  ['IS_PSD', /^8BPS/],
  ['IS_OPENEXR', /^v\/1\x01/],
  ['IS_PDF', /^%PDF-/],
  ['IS_HDF5', /^\x89HDF\r\n\x1a\n/],
  ['IS_NUMPY', /^\x93NUMPY/],
  ['IS_MATLAB', /^MATLAB \d/],
  ['IS_CZI', /^ZISRAWFILE/],
  ['IS_OLYMPUS_VSI', /^SIS\0/],
  ['IS_ZIP', /^PK(\x03\x04|\x05\x06|\x07\x08)/],
  ['IS_GZIP', /^\x1f\x8b/],
  ['IS_7Z', /^7z\xbc\xaf\x27\x1c/],
  ['IS_RAR', /^Rar!\x1a\x07/],
  ['IS_DICOM', /^[^]{128}DICM/],
  ['IS_TAR', /^[^]{257}ustar/],
  ['IS_NIFTI', /^[^]{344}(n\+1|ni1)\0/],
  ['IS_SVG', /^(\xef\xbb\xbf)?\s*(<\?xml[^]*?)?(<!--[^]*?-->\s*)?(<!DOCTYPE svg[^]*?)?<svg[\s>]/i],
  ['IS_HTML', /^(\xef\xbb\xbf)?\s*(<!--[^]*?-->\s*)?<(!doctype html|html|head|body)\b/i],
  ['IS_XML', /^(\xef\xbb\xbf)?\s*<\?xml\b/],
];

/**
 * @param start the first `SIGN_BYTES` of the file, or all of it.
 * @returns undefined for an unknown format.
 */
export function foreignKindOf(start: Buffer): ForeignKind | undefined {
  const text = start.toString('latin1', 0, SIGNATURE_BYTES);
  return SIGNATURES.find(([, signature]) => signature.test(text))?.[0];
}
