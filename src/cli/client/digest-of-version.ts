/** Whether the digest of a version is that of the images which its manifest lists. */
import { ManifestError, openManifest } from '../../formats/manifest/index.ts';
import { versionDigestOf } from '../../formats/manifest/version-digest.ts';
import type { RandomAccess } from '../../formats/random-access.ts';

/** What the API says about a version. */
export interface SealedParts {
  readonly digest: string | null;
  readonly digestRule: 'PIXELS' | 'MANIFEST_FILE';
  readonly imageCount: number;
  readonly manifestSha256: string | null;
  readonly shards: readonly { readonly byteSize: number }[];
}

/**
 * A description of the fault, or undefined.
 * @param file the manifest, which has the sha256 that the version states.
 */
export async function damageOfDigest(version: SealedParts, file: RandomAccess): Promise<string | undefined> {
  const { digest, digestRule, imageCount, manifestSha256, shards } = version;
  switch (digestRule) {
    case 'MANIFEST_FILE':
      return digest === manifestSha256
        ? undefined
        : `DIGEST_MISMATCH: it is not the manifest of a version with the digest ${digest}.`;
    case 'PIXELS':
      try {
        const shardByteSizes = shards.map(({ byteSize }) => byteSize);
        const found = await versionDigestOf(await openManifest(file, { imageCount, shardByteSizes }));
        return found === digest
          ? undefined
          : `DIGEST_MISMATCH: it lists images with the digest ${found}, and the version has the digest ${digest}.`;
      } catch (error) {
        if (error instanceof ManifestError) return `${error.code}: ${error.message}`;
        throw error;
      }
  }
}
