/** Recognising files that are not checkpoints: Git LFS pointers, HDF5, zip and others. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { foreignFileInWords } from '../../src/formats/foreign-file.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');

describe('a file that is not a checkpoint', () => {
  const kinds: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['HDF5', bytes('\x89HDF\r\n\x1a\n\0\0'), /HDF5/],
    ['gzip', gzipSync('weights'), /gzip/],
    ['Zstandard', zstdCompressSync('weights'), /Zstandard/],
    ['numpy', bytes('\x93NUMPY\x01\0'), /numpy/],
    ['Git LFS', bytes('version https://git-lfs.github.com/spec/v1\noid sha256:00'), /Git LFS pointer/],
    ['HTML', bytes('\n<!DOCTYPE html><html>'), /web page/],
    ['the index of shards', bytes('{"metadata": {"total_size": 1}, "weight_map": {"conv1.weight": "a"}}'), /shards/],
    ['other JSON', bytes('{"epoch": 3}'), /^JSON text$/],
    ['ONNX', bytes('\x08\x08\x12\x07pytorch'), /ONNX/],
    ['nothing', new Uint8Array(0), /^empty$/],
  ];
  for (const [name, beginning, expected] of kinds)
    test(name, () => assert.match(foreignFileInWords(beginning) ?? 'of no known kind', expected));

  test('a file of an unknown kind is not named', () => {
    assert.equal(foreignFileInWords(bytes('any other bytes')), undefined);
  });
});
