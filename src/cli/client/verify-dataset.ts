/** `paraffin datasets verify`: download and verify every file of a version, and its digest. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { accessFile } from '../../formats/random-access.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { formatByteSize, createStatusLine, progressBar } from '../terminal.ts';
import { damageOf } from './bytes.ts';
import { clientCommand, connect } from './connection.ts';
import { damageOfDigest, type SealedParts } from './digest-of-version.ts';
import { graphql } from './graphql.ts';
import { paint, show } from './output.ts';
import { findVersion, noDataset } from './references.ts';

const PARTS = graphql(`
  query PartsOfVersion($id: ID!) {
    node(id: $id) {
      ... on DatasetVersion {
        digest
        digestRule
        imageCount
        manifestSha256
        imageHashesSha256
        shards {
          sha256
          byteSize
        }
      }
    }
  }
`);

interface Damage {
  readonly sha256: string;
  readonly damage: string;
}

export const verifyCommand = clientCommand('verify', {
  summary: 'download and verify every file of a version',
  details:
    'Reads the manifest and every shard of a sealed version from the server and compares them with their sha256, and the digest of the version with the images that the manifest lists. Exit code 3 if a digest differs.',
  examples: ['datasets verify bach', 'datasets verify bach@1 --json'],
})
  .argument('<dataset>', 'dataset or dataset@version')
  .action(async (reference, options) => {
    const registry = await connect(options);
    const version = await findVersion(registry, reference);
    const { node } = await registry.ask(PARTS, { id: version.id });
    if (node === null || !('shards' in node)) throw noDataset(reference);
    const lists = [node.manifestSha256, node.imageHashesSha256].filter((sha256) => sha256 !== null);
    const parts = [...lists, ...node.shards.map(({ sha256 }) => sha256)];
    const shardBytes = node.shards.reduce((sum, { byteSize }) => sum + byteSize, 0);
    const line = createStatusLine(process.stderr);
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-manifest-'));
    const manifest = await open(path.join(folder, 'manifest'), 'w+');
    let read = 0;
    let shardBytesRead = 0;
    const damaged: Damage[] = [];
    try {
      for (const sha256 of parts) {
        const damage = await damageOf(registry, sha256, async (bytes) => {
          read += bytes.length;
          // The sizes of the lists are unknown, but small: they are read without counting as progress.
          if (!lists.includes(sha256)) shardBytesRead += bytes.length;
          if (sha256 === node.manifestSha256) await manifest.appendFile(bytes);
          if (options.quiet !== true)
            line.show(
              `${progressBar(shardBytesRead / Math.max(1, shardBytes))} ${formatByteSize(shardBytesRead)} of ${formatByteSize(shardBytes)}`,
            );
        });
        if (damage !== undefined) damaged.push({ sha256, damage });
      }
      if (node.manifestSha256 !== null && damaged.every(({ sha256 }) => sha256 !== node.manifestSha256)) {
        if (options.quiet !== true) line.show('Computing the digest of the version ...');
        const damage = await damageOfDigest(node, accessFile(manifest, (await manifest.stat()).size));
        if (damage !== undefined) damaged.push({ sha256: node.manifestSha256, damage });
      }
    } finally {
      await manifest.close();
      await rm(folder, { recursive: true, force: true });
    }
    line.end();
    const name = `${version.datasetSlug}@${version.version}`;
    const { digest, digestRule } = node;
    show(options, {
      data: { datasetVersionId: version.id, digest, digestRule, fileCount: parts.length, byteSize: read, damaged },
      names: damaged.map(({ sha256 }) => sha256),
      text:
        damaged.length === 0
          ? `${paint('bold', name)} is intact: ${parts.length} files, ${formatByteSize(read)}; digest ${digest ?? ''} (${RULE_IN_WORDS[digestRule]}).`
          : damaged.map(({ sha256, damage }) => `${sha256}: ${damage}`).join('\n'),
    });
    if (damaged.length > 0)
      throw new CommandFailure({
        exitCode: EXIT.DAMAGE_FOUND,
        message: `${damaged.length} of ${parts.length} files of ${name} are damaged.`,
        hint: 'Run "paraffin fsck" on the server, then restore the files from a backup or import the images again.',
      });
  });

const RULE_IN_WORDS: Readonly<Record<SealedParts['digestRule'], string>> = {
  PIXELS: 'of the pixels and labels of its images',
  MANIFEST_FILE: 'of its manifest file, the rule of older versions',
};
