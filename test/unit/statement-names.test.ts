import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createStatementNames } from '../../src/platform/statement-names.ts';

describe('names of prepared statements', () => {
  it('are given to a statement that is repeated, and stay the same', () => {
    const nameOf = createStatementNames();
    assert.equal(nameOf({ sql: 'SELECT 1' }), '');
    const name = nameOf({ sql: 'SELECT 1' });
    assert.notEqual(name, '');
    nameOf({ sql: 'SELECT 2' });
    assert.notEqual(nameOf({ sql: 'SELECT 2' }), name);
    assert.equal(nameOf({ sql: 'SELECT 1' }), name);
  });

  it('are not given to statements that change with the length of a list', () => {
    const nameOf = createStatementNames();
    const sql = 'SELECT * FROM "Run" WHERE id IN ($1,$2,$3)';
    assert.deepEqual(
      [1, 2, 3].map(() => nameOf({ sql })),
      ['', '', ''],
    );
  });

  it('are limited in number, however many statements are repeated; those with a name keep it', () => {
    const nameOf = createStatementNames();
    const names = Array.from({ length: 3_000 }, (_, index) => {
      const sql = `SELECT ${index}`;
      nameOf({ sql });
      return nameOf({ sql });
    }).filter((name) => name !== '');
    assert.equal(names.length, 200);
    assert.equal(new Set(names).size, 200);
    assert.equal(nameOf({ sql: 'SELECT 0' }), names[0]);
  });
});
