/**
 * Detects the actual type of a file that was supplied as weights from its first bytes, and names it in the user's
 * terms.
 */

interface Signature {
  readonly bytes: string;
  readonly inWords: string;
}

const SIGNATURES: readonly Signature[] = [
  { bytes: '\x89HDF\r\n\x1a\n', inWords: 'an HDF5 file (Keras, or h5py)' },
  { bytes: '\x1f\x8b', inWords: 'compressed by gzip (unpack it first)' },
  { bytes: 'BZh', inWords: 'compressed by bzip2 (unpack it first)' },
  { bytes: '\xfd7zXZ\0', inWords: 'compressed by xz (unpack it first)' },
  { bytes: '\x28\xb5\x2f\xfd', inWords: 'compressed by Zstandard (unpack it first)' },
  { bytes: '7z\xbc\xaf\x27\x1c', inWords: 'a 7z archive (unpack it first)' },
  { bytes: 'Rar!', inWords: 'a RAR archive (unpack it first)' },
  { bytes: '\x93NUMPY', inWords: 'a single numpy array (.npy)' },
  { bytes: 'version https://git-lfs', inWords: 'a Git LFS pointer (fetch the real file with "git lfs pull")' },
  { bytes: 'GGUF', inWords: 'a GGUF file (llama.cpp)' },
  { bytes: '%PDF', inWords: 'a PDF' },
  { bytes: '\x89PNG', inWords: 'a PNG image' },
  { bytes: '\xff\xd8\xff', inWords: 'a JPEG image' },
];

/**
 * @param beginning the file's first bytes, some two hundred of them.
 * @returns words that complete "The file is ...", or undefined for an unknown type.
 */
export function foreignFileInWords(beginning: Uint8Array): string | undefined {
  if (beginning.length === 0) return 'empty';
  const text = Buffer.from(beginning).toString('latin1');
  const known = SIGNATURES.find(({ bytes }) => text.startsWith(bytes));
  if (known !== undefined) return known.inWords;
  const start = text.trimStart();
  if (/^<(?:!doctype html|html|head|\?xml)/i.test(start))
    return 'a web page (HTML or XML), perhaps of a failed download';
  if (start.startsWith('{'))
    return /"weight_map"/.test(text)
      ? 'the index of a checkpoint in several shards (it names their tensors and holds none)'
      : 'JSON text';
  if (text.slice(4, 8) === 'TFL3') return 'a TensorFlow Lite model';
  // Field 1 (ir_version) as a small number, then field 2 (producer_name) or 7 (graph).
  if (/^\x08[\x01-\x20](?:\x12|\x3a)/.test(text)) return 'an ONNX model';
  return undefined;
}
