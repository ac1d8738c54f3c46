/**
 * What this machine has verified: a file is read in full once, and what was found is remembered together with its size,
 * modification time and inode. A file that was written since, or replaced by another one, is verified again.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';

export interface VerifiedMemory {
  /** True if this file, as it is now, was verified before. */
  isVerified(sha256: string, file: string): Promise<boolean>;
  /**
   * Verifies the file, and remembers it unless it changed meanwhile.
   * @throws what `verify` throws.
   */
  verified(sha256: string, file: string, verify: () => Promise<void>): Promise<void>;
  forget(sha256: string): Promise<void>;
}

/** One small file per artifact, so that processes need no lock: each is replaced as a whole. */
export function openVerifiedMemory(folder: string): VerifiedMemory {
  const pathOf = (sha256: string): string => path.join(folder, sha256.slice(0, 2), sha256);
  return {
    isVerified: async (sha256, file) => {
      const [now, then] = await Promise.all([imprintOf(file), readFile(pathOf(sha256), 'utf8').catch(() => undefined)]);
      return now !== undefined && now === then;
    },
    verified: async (sha256, file, verify) => {
      const before = await imprintOf(file);
      await verify();
      if (before === undefined || (await imprintOf(file)) !== before) return;
      await mkdir(path.dirname(pathOf(sha256)), { recursive: true, mode: 0o700 });
      const temporaryPath = `${pathOf(sha256)}.${randomUUID()}`;
      await writeFile(temporaryPath, before, { mode: 0o600 });
      await rename(temporaryPath, pathOf(sha256));
    },
    forget: (sha256) => rm(pathOf(sha256), { force: true }),
  };
}

/** Changes when the file is written or replaced; undefined for a file that does not exist. */
async function imprintOf(file: string): Promise<string | undefined> {
  return stat(file, { bigint: true }).then(
    ({ size, mtimeNs, dev, ino }) => `${size} ${mtimeNs} ${dev}:${ino}\n`,
    () => undefined,
  );
}
