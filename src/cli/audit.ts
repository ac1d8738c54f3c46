/** `paraffin audit verify`: recomputes every hash of the audit log. */
import { verifyAuditLog } from '../modules/audit/index.ts';
import { withRegistry } from './with-registry.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';

export interface AuditOptions {
  /** The head that an earlier check printed. */
  readonly head?: { readonly sequence: number; readonly hash: string } | undefined;
  readonly json?: true | undefined;
}

export async function verifyAudit({ head: kept, json }: AuditOptions): Promise<ExitCode> {
  const { head, entryCount, fault, hasKept } = await withRegistry(({ db }) => verifyAuditLog(db, kept));
  const faults = [
    ...(fault === null ? [] : [fault.message]),
    ...(hasKept ? [] : [`Entry ${kept?.sequence ?? ''} with the hash given as --head is not in the log.`]),
  ];
  if (json === true) process.stdout.write(`${JSON.stringify({ entryCount, head, faults }, null, 2)}\n`);
  else
    process.stdout.write(
      faults.length === 0
        ? `The audit log is valid: ${entryCount} entries.\nhead ${head.sequence}:${head.hash}\n`
        : `${faults.join('\n')}\nThe log is valid up to entry ${head.sequence}.\n`,
    );
  return faults.length === 0 ? EXIT.DONE : EXIT.DAMAGE_FOUND;
}
