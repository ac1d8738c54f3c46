/** `paraffin audit verify`: every hash of the audit log is computed anew. */
import { parseArgs } from 'node:util';
import { verifyAuditLog } from '../modules/audit/index.ts';
import { EXIT_DAMAGE_FOUND, withRegistry } from './custody.ts';

const HELP = `usage: npm run paraffin -- audit verify [--head SEQUENCE:HASH] [--json]

Computes the chain of the audit log anew. The log alone can not tell that its end was cut off or that all of it was written anew by
whoever owns the database: keep the head that this command prints somewhere else, and give it as --head the next time.

exit code: 0 the log is as it was written; 3 it is not; 1 it could not be read.

examples:
  npm run paraffin -- audit verify
  npm run paraffin -- audit verify --head 1841:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
`;

export async function auditCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { head: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
  const [, sequence, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(values.head ?? '') ?? [];
  const isAsked = positionals.length === 1 && positionals[0] === 'verify' && (values.head === undefined || hash !== undefined);
  if (values.help === true || !isAsked) {
    (values.help === true ? process.stdout : process.stderr).write(HELP);
    return values.help === true ? 0 : 2;
  }
  const kept = sequence === undefined || hash === undefined ? undefined : { sequence: Number(sequence), hash };
  const { head, entryCount, fault, hasKept } = await withRegistry(({ db }) => verifyAuditLog(db, kept));
  const faults = [...(fault === null ? [] : [fault.message]), ...(hasKept ? [] : [`Entry ${sequence} with the hash given as --head is not in the log.`])];
  if (values.json === true) process.stdout.write(`${JSON.stringify({ entryCount, head, faults }, null, 2)}\n`);
  else process.stdout.write(faults.length === 0 ? `The audit log is whole: ${entryCount} entries.\nhead ${head.sequence}:${head.hash}\n` : `${faults.join('\n')}\nUp to entry ${head.sequence} the log is as it was written.\n`);
  return faults.length === 0 ? 0 : EXIT_DAMAGE_FOUND;
}
