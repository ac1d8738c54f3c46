/** The part of the sandbox (sandbox.ts) that runs inside the sandboxed process if root started it. */

/** The last argument of a program that must switch to an unprivileged user. */
export const DROP_PRIVILEGES = 'drop-privileges';
/** Debian's `nobody`. */
const NOBODY = 65_534;

/** Called by a program in a sandbox after it is loaded and before it reads any input: drops all privileges of root. */
export function dropPrivilegesIfRequested(): void {
  if (process.argv.at(-1) !== DROP_PRIVILEGES) return;
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}
