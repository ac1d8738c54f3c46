/**
 * An unreachable database is distinguished from a faulty statement, whether kernel, driver, PostgreSQL or Prisma
 * reports it.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { databaseUnreachable, isDatabaseFault } from '../../src/platform/database-fault.ts';

const coded = (code: string, message: string = code): Error => Object.assign(new Error(message), { code });

describe('isDatabaseFault', () => {
  for (const [what, error, expected] of [
    ['a refused connection', coded('ECONNREFUSED'), true],
    ['an address without a route', coded('EHOSTUNREACH'), true],
    ['a name that moves to another address', coded('EAI_AGAIN'), true],
    ['PostgreSQL that stops', coded('57P01', 'terminating connection due to administrator command'), true],
    ['PostgreSQL that starts', new Error('the database system is not yet accepting connections'), true],
    ['a standby that is not promoted yet', new Error('cannot execute UPDATE in a read-only transaction'), true],
    ['a statement that got no answer', new Error('Query read timeout'), true],
    ['a connection that got no answer', new Error('timeout exceeded when trying to connect'), true],
    [
      'a statement after the break of its connection',
      new Error('Client has encountered a connection error and is not queryable'),
      true,
    ],
    ['a write to a socket that was closed', coded('ERR_STREAM_DESTROYED'), true],
    ["the adapter's error for a broken connection", new Error('ConnectionClosed'), true],
    ['a broken one, wrapped', new Error('Failed', { cause: new Error('Connection terminated unexpectedly') }), true],
    ['no connection in time, as the services report it', overloaded(), true],
    ['a statement that was wrong', coded('P2002', 'Unique constraint failed'), false],
    ['two transactions that met', coded('40001', 'could not serialize access'), false],
    ['a full disk', coded('ENOSPC'), false],
    ['no error', 'ECONNREFUSED', false],
  ] as const) {
    test(what, () => assert.equal(isDatabaseFault(error), expected));
  }
});

function overloaded(): DomainError {
  return new DomainError({
    code: 'OVERLOADED',
    message: 'The database has no free connection.',
    cause: coded('P2028', 'Unable to start a transaction in the given time.'),
  });
}

test('a client is asked to retry, and does not learn the cause', () => {
  const error = databaseUnreachable(coded('ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:5432'));
  assert.deepEqual([error.code, error.retryable], ['DATABASE_UNREACHABLE', true]);
  assert.ok((error.retryAfterSeconds ?? 0) > 0);
  assert.doesNotMatch(`${error.message} ${error.hint}`, /127\.0\.0\.1|ECONNREFUSED/);
});
