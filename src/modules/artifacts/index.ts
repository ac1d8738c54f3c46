/** Artifacts: immutable bytes named by their sha256. */
export { createArtifactService, type ArtifactService } from './artifacts.service.ts';
export { recordArtifacts, type ArtifactRecord, type NewArtifact } from './artifacts.store.ts';
