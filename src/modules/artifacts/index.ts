/** Artifacts: immutable bytes named by their sha256. */
export { createArtifactService, type ArtifactService } from './artifacts.service.ts';
export { checkArtifacts, type DamagedArtifact, type FsckProgress, type FsckReport } from './fsck.ts';
export { collectGarbage, type GarbageOptions, type GarbageReport } from './garbage.ts';
export { adoptArtifactStore, claimArtifactStore, requireArtifactStore } from './identity.ts';
export { recordArtifacts, type ArtifactRecord, type NewArtifact } from './artifacts.store.ts';
