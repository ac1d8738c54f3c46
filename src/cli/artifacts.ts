/** `paraffin artifacts copy`: moves a registry from a disk to a bucket, or back. */
import { DomainError } from '../errors.ts';
import { copyArtifacts } from '../modules/artifacts/index.ts';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import { openArtifactStore, parseArtifactPlace } from '../platform/artifact-store/index.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { interruptible } from './interruptible.ts';
import { createStatusLine, formatByteSize, progressBar } from './terminal.ts';
import { withRegistry } from './with-registry.ts';

export interface CopyOptions {
  /** A folder, or `s3://bucket/prefix`. */
  readonly to: string;
  readonly json?: true | undefined;
}

export async function copy({ to: target, json }: CopyOptions): Promise<ExitCode> {
  const status = createStatusLine(process.stderr);
  const { location, ...report } = await interruptible((signal) =>
    withRegistry(async ({ env, db, store, databaseUrl }) => {
      const place = parseArtifactPlace(target, env.s3);
      if (place === undefined)
        throw new DomainError({
          code: 'BAD_INPUT',
          message: `${target} is not the address of a bucket.`,
          field: '--to',
          hint: 'Write s3://bucket or s3://bucket/prefix, or a folder.',
        });
      const to = openArtifactStore(place, 'copy');
      if (to.location === store.location)
        throw new DomainError({
          code: 'CONFLICT',
          message: `The artifacts are in ${to.location} already.`,
          field: '--to',
          hint: 'Name another folder or bucket.',
        });
      await to.upkeep.requireUsable();
      const copied = await withStoredBytesLock(databaseUrl, 'SHARED', () =>
        copyArtifacts({
          ...{ db, from: store, to, signal },
          onProgress: ({ bytesDone, bytesTotal }) =>
            status.show(
              `${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${formatByteSize(bytesDone)} of ${formatByteSize(bytesTotal)}`,
            ),
        }),
      );
      return { ...copied, location: to.location };
    }),
  );
  status.end();
  if (json === true) process.stdout.write(`${JSON.stringify({ location, ...report }, null, 2)}\n`);
  else {
    process.stdout.write(
      `Copied ${report.copied.count} artifacts, ${formatByteSize(report.copied.byteSize)}, to ${location}; ${report.present.count} were there already.\n`,
    );
    for (const sha256 of report.damaged) process.stdout.write(`Missing or damaged: ${sha256}\n`);
    process.stdout.write(
      location.startsWith('s3://')
        ? `If the server ran meanwhile, stop it and run this command again. Then start server and workers with PARAFFIN_ARTIFACTS_URL=${location}.\n`
        : `If the server ran meanwhile, stop it and run this command again. Then start server and workers without PARAFFIN_ARTIFACTS_URL, and with the data directory that contains ${location}.\n`,
    );
  }
  return report.damaged.length === 0 ? EXIT.DONE : EXIT.DAMAGE_FOUND;
}
