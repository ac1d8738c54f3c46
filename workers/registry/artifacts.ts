/** The artifacts of the registry, as a run's process stores and reads them. */
import type { ArtifactStore } from '../../src/platform/artifact-store/index.ts';

export type WorkerArtifacts = Pick<ArtifactStore, 'put' | 'stat' | 'open' | 'read'>;
