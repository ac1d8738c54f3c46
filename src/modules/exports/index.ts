/** Exports: a checkpoint's weights as files for other frameworks, proven before they are served. */
import type { Database } from '../../platform/db.ts';
import {
  createExportRegister as createRegister,
  createExportService,
  type ExportRegister,
  type ExportService,
  type ExportServiceParts,
} from './exports.service.ts';
import { createExportStore } from './exports.store.ts';

export { createExportLoaders, type ExportLoaders } from './exports.loaders.ts';
export type { ExportRecord, NewExport, NewExports } from './exports.records.ts';
export {
  EXPORT_FORMATS,
  exportConfigSchema,
  exportMetadataOf,
  MAX_RELATIVE_DIFFERENCE,
  type ExportConfig,
} from './exports.rules.ts';
export type { ExportPatience, ExportRegister, ExportService } from './exports.service.ts';

/** The server's face of the module. */
export function createExports(db: Database, parts: Omit<ExportServiceParts, 'store'>): ExportService {
  return createExportService({ ...parts, store: createExportStore(db) });
}

/** The workers' face of the module: the one write that they do. */
export function createExportRegister(db: Database): ExportRegister {
  return createRegister(createExportStore(db));
}
