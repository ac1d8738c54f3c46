/** How `npm start` decides whether the generated code is older than its inputs. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { generatedFrom } from '../../scripts/prepare.mjs';

test('every file that contributes to the schema is checked for changes', () => {
  const root = path.resolve(import.meta.dirname, '../..');
  const watched = new Set(generatedFrom());
  const definesTypes = /from '(?:\.\.?\/)+(?:api\/)?nexus\.ts'/;
  const missed = globSync('src/**/*.ts', { cwd: root })
    .filter((file) => !file.startsWith('src/generated/'))
    .map((file) => path.join(root, file))
    .filter((file) => definesTypes.test(readFileSync(file, 'utf8')) && !watched.has(file));
  assert.deepEqual(missed, []);
});
