/** Exports: a checkpoint's weights, proven. */
import { createExportService, type ExportService, type ExportServiceParts } from './exports.service.ts';
import { createExportStore } from './exports.store.ts';

export { exportConfigSchema, type ExportConfig } from './exports.rules.ts';
export type { ExportService } from './exports.service.ts';

/** The server's face of the module. */
export function createExports(parts: Omit<ExportServiceParts, 'store'>): ExportService {
  return createExportService({ ...parts, store: createExportStore() });
}
