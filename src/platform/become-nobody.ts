/** The inside of a sandbox that root has made (sandbox.ts). */

/** The last argument of a program that has to become an unprivileged user. */
export const AS_NOBODY = 'as-nobody';
/** Debian's `nobody`. */
const NOBODY = 65_534;

/** For a program in a sandbox, once it is loaded and before it reads a byte: no right stays that others have not. */
export function becomeNobodyIfAsked(): void {
  if (process.argv.at(-1) !== AS_NOBODY) return;
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}
