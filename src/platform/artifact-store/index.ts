/** The artifact store: the interface, and the choice of an implementation. */
import { openLocalStore, type LocalArtifactStore } from './local.ts';
import type { ArtifactPlace } from './place.ts';
import type { S3Place } from './s3-client.ts';
import { openS3Store, type S3ArtifactStore } from './s3.ts';
import type { ArtifactStore } from './store.ts';

export { streamOf } from './byte-source.ts';
export { isBadSector, type LocalArtifactStore } from './local.ts';
export type { LocalFile, LocalFiles } from './local-file.ts';
export { openLocalFiles } from './local-files.ts';
export { parseArtifactPlace, type ArtifactPlace, type S3Access } from './place.ts';
export type { S3Place } from './s3-client.ts';
export { openS3Store, type S3ArtifactStore } from './s3.ts';
export { checksumOf, type UploadCheck } from './upload-check.ts';
export { readVerified, readWhole, scanStream, verifyArtifact } from './verify.ts';
export {
  artifactCorrupt,
  isFileSource,
  type ArtifactStore,
  type ByteRange,
  type ByteSource,
  type DirectUpload,
  type FileSource,
  type SignedPart,
  type StoredBytes,
  type StoredFacts,
  type StoredFile,
} from './store.ts';

/** @param writer names this process's unfinished files, so that they can be removed when it has ended. */
export function openArtifactStore(folder: string, writer?: string): LocalArtifactStore;
export function openArtifactStore(place: S3Place, writer?: string): S3ArtifactStore;
export function openArtifactStore(place: ArtifactPlace, writer?: string): ArtifactStore;
export function openArtifactStore(place: ArtifactPlace, writer = ''): ArtifactStore {
  return typeof place === 'string' ? openLocalStore(place, writer) : openS3Store(place, { writer });
}
