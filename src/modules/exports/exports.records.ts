/** Types of exports that other modules use. */
import type { ExportFormat, ExportStatus } from '../../generated/prisma/enums.ts';
import type { NewExport } from '../../protocol/export.ts';

/** The result of checking a file. */
export interface ExportRecord {
  readonly checkpointId: string;
  readonly format: ExportFormat;
  /** REFUSED: the file failed its check and cannot be downloaded. */
  readonly status: ExportStatus;
  readonly sha256: string | null;
  readonly byteSize: number | null;
  /**
   * The greatest difference between a component of an embedding and the engine's, relative to that embedding's root
   * mean square; null if the file gave no embedding.
   */
  readonly maxRelativeDifference: number | null;
  /** The reason for the refusal. */
  readonly reason: string | null;
  readonly checkedAt: Date;
  readonly runId: string;
}

/** The exports of one run. */
export interface NewExports {
  readonly checkpointId: string;
  readonly runId: string;
  readonly exports: readonly NewExport[];
}
