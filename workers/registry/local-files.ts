/** Local files of artifacts; a damaged artifact is reported, so that the registry sets it aside. */
import { DomainError } from '../../src/errors.ts';
import type { LocalFiles } from '../../src/platform/artifact-store/index.ts';
import type { RunRegistry } from '../../src/protocol/run-calls.ts';
import type { TaskContext } from '../tasks/task.ts';

export function localFileOf(files: LocalFiles, registry: Pick<RunRegistry, 'reportDamage'>): TaskContext['localFile'] {
  return async (sha256) => {
    try {
      return await files.hold(sha256);
    } catch (error) {
      if (error instanceof DomainError && error.code === 'ARTIFACT_CORRUPT') await registry.reportDamage({ sha256 });
      throw error;
    }
  };
}
