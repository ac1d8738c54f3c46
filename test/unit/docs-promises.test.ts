/** The pages on reliability and security promise only what a test holds: each names one that is there. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.resolve(import.meta.dirname, '../..');
const NAMED = /`((?:test\/|\.)[\w./-]+)`: ([^|)\n]+)/g;

for (const page of ['docs/reliability.md', 'docs/security.md']) {
  test(`every promise of ${page} names its test`, () => {
    const text = readFileSync(path.join(ROOT, page), 'utf8');
    const named = [...text.matchAll(NAMED)];
    assert.ok(named.length >= 15);
    for (const [, file = '', title = ''] of named) {
      assert.ok(
        readFileSync(path.join(ROOT, file), 'utf8').replaceAll("\\'", "'").includes(title.trim()),
        `${file} has no "${title.trim()}"`,
      );
    }
  });
}
