/** Conditions and ranges, case by case of RFC 9110. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { evaluateConditions, selectRange } from '../../src/api/http-conditions.ts';
import { attachment } from '../../src/api/downloads.ts';

const ETAG = '"abc"';

describe('conditions', () => {
  const cases: readonly [string, Record<string, string>, string][] = [
    ['none', {}, 'SEND'],
    ['If-Match of it', { 'if-match': '"abc"' }, 'SEND'],
    ['If-Match of it among others', { 'if-match': '"x", "abc"' }, 'SEND'],
    ['If-Match of anything', { 'if-match': '*' }, 'SEND'],
    ['If-Match of another', { 'if-match': '"x"' }, 'PRECONDITION_FAILED'],
    ['If-Match compares strongly', { 'if-match': 'W/"abc"' }, 'PRECONDITION_FAILED'],
    ['If-Match that is not a list of tags', { 'if-match': 'abc' }, 'PRECONDITION_FAILED'],
    ['If-None-Match of it', { 'if-none-match': '"abc"' }, 'NOT_MODIFIED'],
    ['If-None-Match compares weakly', { 'if-none-match': 'W/"abc"' }, 'NOT_MODIFIED'],
    ['If-None-Match of anything', { 'if-none-match': '*' }, 'NOT_MODIFIED'],
    ['If-None-Match of others', { 'if-none-match': '"x", W/"y"' }, 'SEND'],
    ['If-Match comes first', { 'if-match': '"x"', 'if-none-match': '"abc"' }, 'PRECONDITION_FAILED'],
    [
      'dates are ignored where none is known',
      { 'if-unmodified-since': 'Thu, 01 Jan 1970 00:00:00 GMT', 'if-modified-since': 'Fri, 01 Jan 2100 00:00:00 GMT' },
      'SEND',
    ],
  ];
  for (const [what, headers, verdict] of cases)
    test(what, () => assert.equal(evaluateConditions(headers, ETAG), verdict));
});

describe('ranges of 10 bytes', () => {
  const cases: readonly [string, unknown][] = [
    ['bytes=0-0', { first: 0, last: 0 }],
    ['bytes=0-', { first: 0, last: 9 }],
    ['bytes=3-5', { first: 3, last: 5 }],
    ['Bytes=3-5', { first: 3, last: 5 }],
    ['bytes= 3-5 ', { first: 3, last: 5 }],
    ['bytes=9-99999999999999999999999', { first: 9, last: 9 }],
    ['bytes=-4', { first: 6, last: 9 }],
    ['bytes=-400', { first: 0, last: 9 }],
    ['bytes=-0', 'UNSATISFIABLE'],
    ['bytes=10-', 'UNSATISFIABLE'],
    ['bytes=99999999999999999999999-', 'UNSATISFIABLE'],
    ['bytes=5-2', 'WHOLE'],
    ['bytes=abc', 'WHOLE'],
    ['bytes=-', 'WHOLE'],
    ['bytes=', 'WHOLE'],
    ['bytes=1.5-3', 'WHOLE'],
    ['bytes=--3', 'WHOLE'],
    ['bytes=0-1,4-5', 'WHOLE'],
    ['items=0-1', 'WHOLE'],
    ['0-1', 'WHOLE'],
    ['', 'WHOLE'],
  ];
  for (const [range, selected] of cases)
    test(`"${range}"`, () => assert.deepEqual(selectRange({ range }, ETAG, 10), selected));

  test('none at all', () => assert.equal(selectRange({}, ETAG, 10), 'WHOLE'));
  test('of nothing', () => assert.equal(selectRange({ range: 'bytes=0-' }, ETAG, 0), 'UNSATISFIABLE'));
  test('If-Range of the same bytes', () =>
    assert.deepEqual(selectRange({ range: 'bytes=3-5', 'if-range': ETAG }, ETAG, 10), { first: 3, last: 5 }));
  for (const ifRange of ['"x"', 'W/"abc"', 'Fri, 01 Jan 2100 00:00:00 GMT']) {
    test(`If-Range ${ifRange}`, () =>
      assert.equal(selectRange({ range: 'bytes=3-5', 'if-range': ifRange }, ETAG, 10), 'WHOLE'));
  }
});

test('names of saved files', () => {
  assert.equal(attachment('tissue-v3-resnet18.safetensors'), 'attachment; filename="tissue-v3-resnet18.safetensors"');
  assert.equal(
    attachment('Gewebe "ä"\r\n.bin'),
    'attachment; filename="Gewebe _____.bin"; filename*=UTF-8\'\'Gewebe%20%22%C3%A4%22%0D%0A.bin',
  );
});
