/**
 * Documents that are short to send and expensive to process, and floods of them: other users must still get answers
 * soon.
 */
import { readFile } from 'node:fs/promises';
import { at } from '../test/support/catalogue.ts';
import type { Attack } from './attack.ts';

const repeated = (count: number, text: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => text(index)).join(' ');

/** Each within MAX_BODY_BYTES, most within MAX_TOKENS. */
const DOCUMENTS: Readonly<Record<string, string>> = {
  'many fields with one name': `{ ${repeated(1_200, () => 'viewer { role }')} }`,
  aliases: `{ ${repeated(1_000, (index) => `a${index}: viewer { role }`)} }`,
  'fragments beside each other': `{ ${repeated(400, (index) => `...f${index}`)} } ${repeated(400, (index) => `fragment f${index} on Query { viewer { role } }`)}`,
  'nested fragments': `{ ...f0 } ${repeated(300, (index) => `fragment f${index} on Query { ...f${index + 1} viewer { role } }`)} fragment f300 on Query { viewer { role } }`,
  'page sizes from the default of a variable':
    'query($n: Int = 200) { datasets(first: $n) { nodes { versions(first: $n) { nodes { id } } } } }',
  'points of metrics': '{ runs(first: 200) { nodes { metrics(maxPoints: 100000) { points { step value } } } } }',
  'an endless selection': `{ datasets { nodes ${'{ parent '.repeat(400)}{ id } ${'} '.repeat(400)} } }`,
  brackets: '{'.repeat(100_000),
  'a long string': `{ dataset(slug: "${'a'.repeat(500_000)}") { id } }`,
  directives: `{ viewer ${repeated(1_500, () => '@a')} { role } }`,
  variables: `query(${repeated(1_000, (index) => `$v${index}: Int`)}) { viewer { role } }`,
};
/**
 * The original fault was half a second of event loop for each of five. The limit is in processor time of the server,
 * which depends less on other work on the machine.
 */
const COSTLIEST_MS = 2_000;
/** The kernel's unit of processor time: USER_HZ of Linux. */
const TICK_MS = 10;
const FLOOD = 300;

export const costlyQueries: Attack = {
  name: 'costly-queries',
  about: 'short documents that take long to validate or answer, and hundreds of queries at once',
  share: 4,
  run: async ({ quick, server }) => {
    const attacked = await server();
    const findings: string[] = [];
    let tryCount = 0;
    for (const [what, document] of Object.entries(DOCUMENTS)) {
      tryCount += 1;
      const beforeMs = await workedMs(attacked.pid);
      const answers = await Promise.all(
        Array.from({ length: 5 }, () => attacked.ask(document).catch((error: unknown) => String(error))),
      );
      const costMs = (await workedMs(attacked.pid)) - beforeMs;
      const fault = await attacked.fault();
      if (fault !== undefined) findings.push(`${what}: ${fault}`);
      if (costMs > COSTLIEST_MS)
        findings.push(`${what}: the server took ${costMs} ms of processor time for five of them`);
      for (const answer of answers) {
        const code = at(answer, 'errors.0.extensions.code');
        if (typeof answer === 'string' || String(code).startsWith('INTERNAL'))
          findings.push(`${what}: ${JSON.stringify(answer).slice(0, 200)}`);
      }
    }
    const query = '{ datasets(first: 100) { totalCount nodes { slug name organs { name } stains { name } } } }';
    for (let round = quick ? 1 : 10; round > 0; round -= 1) {
      const flood = Array.from({ length: FLOOD }, () => attacked.ask(query).catch((error: unknown) => String(error)));
      // Another sender: requests without a key are counted by address.
      const other = await attacked
        .ask('{ datasets(first: 1) { totalCount } }', {}, null)
        .catch((error: unknown) => String(error));
      if (at(other, 'errors') !== undefined || typeof other === 'string')
        findings.push(
          `During a flood from one key another sender got the answer ${JSON.stringify(other).slice(0, 200)}`,
        );
      const codes = new Set(
        (await Promise.all(flood)).map((answer) =>
          typeof answer === 'string' ? answer : at(answer, 'errors.0.extensions.code'),
        ),
      );
      codes.delete(undefined);
      codes.delete('OVERLOADED');
      if (codes.size > 0) findings.push(`A flood was answered with ${[...codes].join(', ')}`);
      tryCount += FLOOD + 1;
    }
    return { tryCount, findings };
  },
};

/** Processor time of a process in user and kernel mode (proc_pid_stat(5): utime and stime). */
async function workedMs(pid: number): Promise<number> {
  const line = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name in brackets may contain anything, so the fields are counted from the last bracket.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
