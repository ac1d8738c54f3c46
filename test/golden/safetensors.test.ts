/**
 * Files that Python's safetensors wrote, number by number, and its verdict on files that are wrong
 * (safetensors_oracle.py).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { accessBytes } from '../../src/formats/random-access.ts';
import { openForeignSafetensors, readForeignSafetensors, SafetensorsError } from '../../src/formats/safetensors.ts';
import { toFloat32 } from '../../src/formats/torch-checkpoint/index.ts';

const tensorFacts = z.object({
  dtype: z.string(),
  shape: z.array(z.number()),
  integers: z.array(z.string()).nullable(),
  float32: z.array(z.string()),
});
const expectedFile = z.object({
  oracle: z.string(),
  files: z.array(
    z.object({
      name: z.string(),
      file: z.base64(),
      metadata: z.record(z.string(), z.string()),
      tensors: z
        .unknown()
        .transform(entriesOf)
        .pipe(z.array(z.tuple([z.string(), tensorFacts]))),
    }),
  ),
  judged: z.array(z.object({ what: z.string(), file: z.base64(), isAccepted: z.boolean() })),
});
const expected = expectedFile.parse(
  JSON.parse(readFileSync(new URL('safetensors-expected.json', import.meta.url), 'utf8')),
);

/** A record of zod would lose `__proto__`. */
function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === 'object' && value !== null ? Object.entries(value) : [];
}

const fromPython = (text: string): number => (text === 'inf' ? Infinity : text === '-inf' ? -Infinity : Number(text));
const byName = (a: { readonly name: string }, b: { readonly name: string }): number => (a.name < b.name ? -1 : 1);

describe(`what ${expected.oracle} wrote`, () => {
  for (const { name, file, metadata, tensors } of expected.files) {
    test(name, () => {
      const read = readForeignSafetensors(Buffer.from(file, 'base64'));
      assert.deepEqual(read.metadata, metadata);
      assert.deepEqual(
        read.tensors
          .toSorted(byName)
          .map((tensor) => ({ name: tensor.name, dtype: tensor.dtype, shape: tensor.shape })),
        tensors.map(([key, { dtype, shape }]) => ({ name: key, dtype, shape })).toSorted(byName),
      );
      for (const [key, { integers, float32 }] of tensors) {
        const found = read.tensors.find((tensor) => tensor.name === key);
        assert.ok(found !== undefined);
        if (integers !== null) assert.deepEqual(Array.from(found.data, String), integers, key);
        // deepStrictEqual distinguishes -0 from 0.
        assert.deepEqual(Array.from(toFloat32(found)), float32.map(fromPython), key);
      }
    });
  }
});

describe('what it refuses is refused, what it takes is taken', () => {
  /** Two readers could see two files in the first two; the others hold no weights of ours. */
  const STRICTER = new Set(['one name twice', 'an unknown field', '8-bit floats', 'unsigned integers of 16 bits']);

  for (const { what, file, isAccepted } of expected.judged) {
    test(STRICTER.has(what) ? `${what}: refused here alone` : what, async () => {
      const bytes = Buffer.from(file, 'base64');
      const read = (): unknown => readForeignSafetensors(bytes);
      const open = (): Promise<unknown> => openForeignSafetensors(accessBytes(bytes));
      if (isAccepted && !STRICTER.has(what)) {
        assert.doesNotThrow(read);
        await assert.doesNotReject(open);
      } else {
        assert.throws(read, SafetensorsError);
        await assert.rejects(open, SafetensorsError);
      }
    });
  }

  test('where it is stricter is known', () =>
    assert.ok(
      [...STRICTER].every((name) => expected.judged.some(({ what, isAccepted }) => what === name && isAccepted)),
    ));
});
