/** Progress bars, tables and safe text of the command line. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { formatByteSize, printable, progressBar, table } from '../../src/cli/terminal.ts';

describe('progress bar', () => {
  test('has the same length for any fraction, and stays within its frame', () => {
    assert.deepEqual(
      [-1, 0, 0.5, 1, 7].map((fraction) => progressBar(fraction, 4)),
      ['[----]', '[----]', '[##--]', '[####]', '[####]'],
    );
    assert.equal(progressBar(0.3).length, 26);
  });
});

test('a size in bytes has at most three digits and no exponent, also just below the next unit', () => {
  assert.deepEqual([0, 999, 1000].map(formatByteSize), ['0 bytes', '999 bytes', '1.00 kB']);
  for (const byteSize of [12_345, 999_499, 999_500, 999_999, 999_999_999, 1e12 - 1, 5e14])
    assert.match(formatByteSize(byteSize), /^\d{1,3}(\.\d{1,3})? [kMGT]B$/, String(byteSize));
});

test('text of other users moves no cursor and reorders nothing', () => {
  assert.equal(printable('\u001b]0;title\u0007a\rb\u009b31m'), '\ufffd]0;title\ufffda\ufffdb\ufffd31m');
  assert.equal(printable('\u202egnp.exe'), '\ufffdgnp.exe');
  assert.equal(printable('组织 😀\tone\ntwo'), '组织 😀\tone\ntwo');
});

describe('table', () => {
  test('aligns columns, numbers to the right, text to the left', () => {
    const lines = table(
      ['encoder', 'macroF1', 'note'],
      [
        ['pretrained', '0.9', 'real'],
        ['random', '-0.25', ''],
      ],
    ).split('\n');
    assert.deepEqual(lines, [
      'encoder     macroF1  note',
      '----------  -------  ----',
      'pretrained      0.9  real',
      'random        -0.25',
    ]);
  });

  test('aligns coloured cells by their visible width', () => {
    const lines = table(
      ['run', 'status', 'by'],
      [
        ['1', '\u001b[32mSUCCEEDED\u001b[39m', 'ana'],
        ['2', '\u001b[31mFAILED\u001b[39m', 'bo'],
      ],
    ).split('\n');
    assert.deepEqual(
      lines.map((each) => stripVTControlCharacters(each)),
      ['run  status     by', '---  ---------  ---', '1    SUCCEEDED  ana', '2    FAILED     bo'],
    );
  });

  test('a column that holds text anywhere is left-aligned all the way down', () => {
    const lines = table(
      ['slug', 'resolution'],
      [
        ['a', '40x'],
        ['b', 'about 0.25 um'],
      ],
    ).split('\n');
    assert.deepEqual(lines, ['slug  resolution', '----  -------------', 'a     40x', 'b     about 0.25 um']);
  });

  test('prints a header without rows, and accepts rows that are too short', () => {
    assert.equal(table(['a', 'bb'], []), 'a  bb\n-  --');
    assert.equal(
      table(['a', 'bb'], [['x']])
        .split('\n')
        .at(-1),
      'x',
    );
  });
});
