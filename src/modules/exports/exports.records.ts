/** Exports as the rest of the program sees them. */
import type { ExportFormat, ExportStatus } from '../../generated/prisma/enums.ts';

/** What a check of a file came to. */
export interface ExportRecord {
  readonly checkpointId: string;
  readonly format: ExportFormat;
  /** REFUSED: it failed its check, and is not served. */
  readonly status: ExportStatus;
  readonly sha256: string | null;
  readonly byteSize: number | null;
  /**
   * Greatest difference of one component of an embedding from the engine's, against that embedding's root mean square;
   * null where the file gave none.
   */
  readonly maxRelativeDifference: number | null;
  /** Why it is refused. */
  readonly reason: string | null;
  readonly checkedAt: Date;
  readonly runId: string;
}

/** An export as the task hands it over. */
export type NewExport =
  | {
      readonly format: ExportFormat;
      readonly status: 'AVAILABLE';
      readonly maxRelativeDifference: number;
      readonly sha256: string;
      readonly byteSize: number;
    }
  | {
      readonly format: ExportFormat;
      readonly status: 'REFUSED';
      readonly maxRelativeDifference: number | null;
      readonly reason: string;
    };

/** What one run made. */
export interface NewExports {
  readonly checkpointId: string;
  readonly runId: string;
  readonly exports: readonly NewExport[];
}
