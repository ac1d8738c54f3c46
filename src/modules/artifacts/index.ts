/** Artifacts: immutable bytes named by their sha256. */
export { createArtifactService, type ArtifactService } from './artifacts.service.ts';
export { copyArtifacts, type CopyReport } from './copy.ts';
export { checkArtifacts, type DamagedArtifact, type FsckProgress, type FsckReport, type Sum } from './fsck.ts';
export {
  collectGarbage,
  type DroppedReferences,
  type GarbageOptions,
  type GarbageReport,
  type KindReport,
} from './garbage.ts';
export { adoptArtifactStore, claimArtifactStore, requireArtifactStore } from './identity.ts';
export {
  EMBEDDING_BLOCK_MEDIA_TYPE,
  IMPORT_BLOCK_MEDIA_TYPE,
  IMPORT_PART_MEDIA_TYPE,
  startSweeper,
  sweepReplaced,
  TRAINING_STATE_MEDIA_TYPE,
} from './sweep.ts';
export { recordArtifacts, type ArtifactRecord, type NewArtifact } from './artifacts.store.ts';
